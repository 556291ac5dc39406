package dev.halter.device.cuda;

import static jcuda.driver.JCudaDriver.cuCtxSetCurrent;
import static jcuda.driver.JCudaDriver.cuDeviceGet;
import static jcuda.driver.JCudaDriver.cuDeviceGetAttribute;
import static jcuda.driver.JCudaDriver.cuDeviceGetCount;
import static jcuda.driver.JCudaDriver.cuDeviceGetName;
import static jcuda.driver.JCudaDriver.cuDevicePrimaryCtxRelease;
import static jcuda.driver.JCudaDriver.cuDevicePrimaryCtxRetain;
import static jcuda.driver.JCudaDriver.cuDriverGetVersion;
import static jcuda.driver.JCudaDriver.cuMemGetInfo;

import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import java.nio.charset.StandardCharsets;
import jcuda.driver.CUcontext;
import jcuda.driver.CUdevice;
import jcuda.driver.CUdevice_attribute;
import jcuda.driver.CUresult;

/** The primary context of a card, and what the card is. */
final class Context implements AutoCloseable {
  private final CUdevice device = new CUdevice();
  private final CUcontext context = new CUcontext();
  private final String description;
  private boolean open;

  /**
   * Opens it, of a driver that has been started.
   *
   * @param card among those that the driver shows, from 0
   */
  Context(int card) {
    int status = cuDeviceGet(device, card);
    if (status == CUresult.CUDA_ERROR_INVALID_DEVICE) {
      throw new DeviceException("there is no CUDA device " + card + ": " + shown());
    }
    Driver.check(status, "finding CUDA device " + card);
    Driver.check(cuDevicePrimaryCtxRetain(context, device), "opening CUDA device " + card);
    open = true;
    try {
      bind();
      description = "%s (sm_%d)".formatted(name(), capability());
    } catch (RuntimeException | Error e) {
      close();
      throw e;
    }
  }

  private static String shown() {
    int[] count = new int[1];
    Driver.check(cuDeviceGetCount(count), "counting CUDA devices");
    return count[0] == 1 ? "the driver shows one, 0" : "the driver shows 0 to " + (count[0] - 1);
  }

  private String name() {
    byte[] name = new byte[256];
    Driver.check(cuDeviceGetName(name, name.length, device), "asking for the card's name");
    int end = 0;
    while (end < name.length && name[end] != 0) {
      end++;
    }
    return new String(name, 0, end, StandardCharsets.UTF_8);
  }

  /**
   * Makes the context current in the calling thread, which is the only one now.
   *
   * <p>Always, as only the driver knows what is: other code may have made another context current
   * since, and a virtual thread may go on in another of the system's threads, which is what a
   * context is current in. A call that finds nothing to change takes some tens of nanoseconds
   * (measured with the tests' driver), where a launch takes microseconds.
   */
  void bind() {
    if (!open) {
      throw new IllegalStateException("the device is closed");
    }
    Driver.check(cuCtxSetCurrent(context), "entering the CUDA context, or " + CudaDevice.QUEUED);
  }

  /** As {@link #bind}, for closing, where what has failed must not keep the rest from its end. */
  void bindUnchecked() {
    cuCtxSetCurrent(context);
  }

  boolean isOpen() {
    return open;
  }

  /** {@code "NVIDIA H200 (sm_90)"}. */
  String description() {
    return description;
  }

  /** 90 for 9.0. */
  int capability() {
    return 10 * attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
        + attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  }

  /** A limit of the card, by its number in {@link CUdevice_attribute}. */
  int attribute(int attribute) {
    int[] value = new int[1];
    Driver.check(cuDeviceGetAttribute(value, attribute, device), "asking for the card's limits");
    return value[0];
  }

  /** The newest CUDA that the driver knows: {@code "13.0"}. */
  static String driverVersion() {
    int version = driverNumber();
    return version / 1000 + "." + version % 1000 / 10;
  }

  /** The same as the driver tells it: 13000. */
  static int driverNumber() {
    int[] version = new int[1];
    Driver.check(cuDriverGetVersion(version), "asking for the driver's version");
    return version[0];
  }

  Device.Memory memory() {
    bind();
    long[] free = new long[1];
    long[] total = new long[1];
    Driver.check(cuMemGetInfo(free, total), "asking for free memory");
    return new Device.Memory(total[0], free[0]);
  }

  @Override
  public void close() {
    open = false;
    cuDevicePrimaryCtxRelease(device);
  }
}
