package dev.halter.device;

/** The machine has no driver for such devices, so that nobody expects one to work. */
public final class NoDriverException extends DeviceException {
  private static final long serialVersionUID = 1L;

  public NoDriverException(String message, Throwable cause) {
    super(message, cause);
  }
}
