package dev.halter.device;

/** An allocation did not fit. */
public final class OutOfDeviceMemoryException extends DeviceException {
  private static final long serialVersionUID = 1L;

  public OutOfDeviceMemoryException(long bytes, Device.Memory memory) {
    super(
        "out of device memory: %,d bytes asked for, %,d of %,d free: %schoose a smaller --context or --max-batch"
            .formatted(
                bytes,
                memory.free(),
                memory.total(),
                // The system said no all the same.
                bytes <= memory.free()
                    ? "not in one piece, or a limit of the process is lower; "
                    : ""));
  }
}
