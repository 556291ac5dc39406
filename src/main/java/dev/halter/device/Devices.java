package dev.halter.device;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;

/**
 * Opens devices by name. The two implementations are reached by class name only, so that a machine
 * without CUDA never loads a class that needs it.
 */
public final class Devices {
  private static final String CUDA = "dev.halter.device.cuda.CudaDevice";
  private static final String CPU = "dev.halter.device.cpu.CpuDevice";

  private Devices() {}

  /** A device, or why there is none. Exactly one of the two is null. */
  public record Attempt(Device device, String reason) {}

  /**
   * Opens {@code "cpu"}, {@code "cuda"}, or with {@code "auto"} CUDA where it works and else the
   * CPU.
   *
   * @param threads CPU threads; 0 for one on each core
   * @param batchInvariant whether a row's bits may not depend on its batch; only the CPU has the
   *     choice, see {@code CpuDevice}
   * @throws DeviceException if the device asked for cannot be had, saying why
   */
  public static Device open(String name, int threads, boolean batchInvariant) {
    return switch (name) {
      case "cpu" -> open(tryCpu(threads, batchInvariant), name);
      case "cuda" -> open(tryCuda(), name);
      case "auto" -> {
        Device cuda = tryCuda().device();
        yield cuda != null ? cuda : open(tryCpu(threads, batchInvariant), "cpu");
      }
      default ->
          throw new IllegalArgumentException("no device '" + name + "': choose auto, cpu or cuda");
    };
  }

  /** The first CUDA device, or why it cannot be used. */
  public static Attempt tryCuda() {
    return attempt(CUDA, MethodType.methodType(Device.class));
  }

  /** The CPU, or why it cannot be used. */
  public static Attempt tryCpu(int threads, boolean batchInvariant) {
    MethodType type = MethodType.methodType(Device.class, int.class, boolean.class);
    return attempt(CPU, type, threads, batchInvariant);
  }

  private static Device open(Attempt attempt, String name) {
    if (attempt.device() == null) {
      throw new DeviceException("device '" + name + "' cannot be used: " + attempt.reason());
    }
    return attempt.device();
  }

  private static Attempt attempt(String className, MethodType type, Object... arguments) {
    try {
      var open = MethodHandles.publicLookup().findStatic(Class.forName(className), "open", type);
      return new Attempt((Device) open.invokeWithArguments(arguments), null);
    } catch (DeviceException | LinkageError e) {
      return new Attempt(null, e.getMessage());
    } catch (Throwable e) {
      return new Attempt(null, e.toString());
    }
  }
}
