package dev.halter.device.cuda;

import java.lang.foreign.MemorySegment;
import jcuda.driver.CUdeviceptr;

/** A raw address, of device or native host memory, as JCuda takes and gives it. */
final class Address extends CUdeviceptr {

  /** To be filled in by a driver function. */
  Address() {}

  Address(long value) {
    super(new CUdeviceptr(), value);
  }

  Address(MemorySegment segment) {
    this(segment.address());
  }

  long value() {
    return getNativePointer() + getByteOffset();
  }
}
