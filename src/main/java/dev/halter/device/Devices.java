package dev.halter.device;

import java.lang.System.Logger.Level;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.List;
import java.util.function.Consumer;
import java.util.regex.Pattern;

/**
 * Opens devices by name. The two implementations are reached by class name only, so that a machine
 * without CUDA never loads a class that needs it.
 */
public final class Devices {
  private static final System.Logger LOG = System.getLogger(Devices.class.getName());

  /** System property: with {@code true}, devices are {@link ProfiledDevice}s. */
  public static final String PROFILE = "halter.profile";

  private static final String CUDA = "dev.halter.device.cuda.CudaDevice";
  private static final String CPU = "dev.halter.device.cpu.CpuDevice";

  /** A CUDA device by its number. */
  private static final Pattern CARD = Pattern.compile("cuda:\\d{1,4}");

  private Devices() {}

  /** Whether {@link #open} knows the name; whether there is such a device is another question. */
  public static boolean isName(String name) {
    return List.of("auto", "cpu", "cuda").contains(name) || CARD.matcher(name).matches();
  }

  /**
   * A device, or why there is none. Exactly one of the two is null.
   *
   * @param reason one line
   * @param noDriver whether the machine has no driver for it, so that nobody expects it to work
   */
  public record Attempt(Device device, String reason, boolean noDriver) {}

  /**
   * As {@link #open(String, int, boolean, Consumer)}, with a warning in the log for what {@code
   * fallback} would hear.
   */
  public static Device open(String name, int threads, boolean batchInvariant) {
    return open(name, threads, batchInvariant, line -> LOG.log(Level.WARNING, line));
  }

  /**
   * Opens {@code "cpu"}, {@code "cuda"}, its first card, or {@code "cuda:1"}, another; or with
   * {@code "auto"} CUDA where it works and else the CPU.
   *
   * @param threads CPU threads; 0 for one on each core
   * @param batchInvariant whether a row's bits may not depend on its batch; only the CPU has the
   *     choice, see {@code CpuDevice}
   * @param fallback hears in one line why {@code "auto"} takes the CPU; hears nothing on a machine
   *     without an NVIDIA driver, where nobody expects anything else
   * @return with {@code -Dhalter.profile=true} one that prints its profile to the standard error
   *     when it is closed
   * @throws DeviceException if the device asked for cannot be had, saying why
   */
  public static Device open(
      String name, int threads, boolean batchInvariant, Consumer<String> fallback) {
    Device device = plain(name, threads, batchInvariant, fallback);
    return Boolean.getBoolean(PROFILE) ? new ProfiledDevice(device, System.err::print) : device;
  }

  private static Device plain(
      String name, int threads, boolean batchInvariant, Consumer<String> fallback) {
    if (CARD.matcher(name).matches()) {
      return open(tryCuda(Integer.parseInt(name.substring(name.indexOf(':') + 1))), name);
    }
    return switch (name) {
      case "cpu" -> open(tryCpu(threads, batchInvariant), name);
      case "cuda" -> open(tryCuda(), name);
      case "auto" -> {
        Attempt cuda = tryCuda();
        if (cuda.device() != null) {
          yield cuda.device();
        }
        if (!cuda.noDriver()) {
          fallback.accept("using the CPU: CUDA cannot be used: " + cuda.reason());
        }
        yield open(tryCpu(threads, batchInvariant), "cpu");
      }
      default ->
          throw new IllegalArgumentException(
              "no device '" + name + "': choose auto, cpu, cuda or cuda:N");
    };
  }

  /** The first CUDA device, or why it cannot be used. */
  public static Attempt tryCuda() {
    return tryCuda(0);
  }

  private static Attempt tryCuda(int card) {
    return attempt(CUDA, MethodType.methodType(Device.class, int.class), card);
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
      return new Attempt((Device) open.invokeWithArguments(arguments), null, false);
    } catch (Throwable e) {
      return new Attempt(null, reason(e), e instanceof NoDriverException);
    }
  }

  /** What those that say enough say, and of others their class too; in one line. */
  private static String reason(Throwable e) {
    boolean enough = e instanceof DeviceException || e instanceof LinkageError;
    String reason = enough && e.getMessage() != null ? e.getMessage() : e.toString();
    return reason.strip().replaceAll("\\s*\\R\\s*", " ");
  }
}
