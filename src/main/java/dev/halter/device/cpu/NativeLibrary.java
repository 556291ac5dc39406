package dev.halter.device.cpu;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.halter.device.DeviceException;
import dev.halter.files.NativeFiles;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/**
 * One of the two builds of the kernels, libhalter.so or libhalter-faithful.so, as declared in
 * native/include/halter.h.
 *
 * <p>The handles are not bound to an address, so that both libraries share them as constants, which
 * is what lets the compiler inline the calls.
 */
final class NativeLibrary {
  private static final int ABI = 3;

  private static final MethodHandle ABI_VERSION = handle(JAVA_INT);
  private static final MethodHandle TEXT = handle(ADDRESS);
  private static final MethodHandle THREADS = handle(JAVA_INT, JAVA_INT);
  private static final MethodHandle ONEDNN = handle(JAVA_INT, ADDRESS);
  private static final MethodHandle KERNEL = handle(JAVA_INT, ADDRESS);
  private static final MethodHandle KERNEL_NAME = handle(ADDRESS, JAVA_INT);
  private static final MethodHandle KERNEL_PARAMETERS =
      handle(JAVA_INT, JAVA_INT, ADDRESS, JAVA_INT);
  private static final MethodHandle SCHEDULE = handle(JAVA_INT, JAVA_INT, JAVA_LONG);
  private static final MethodHandle RUN = handle(JAVA_INT, ADDRESS, JAVA_LONG);

  private static final Map<String, NativeLibrary> LOADED = new HashMap<>();

  private final Path file;
  private final SymbolLookup symbols;
  private final MemorySegment error;
  private final MemorySegment kernel;
  private final MemorySegment kernelName;
  private final MemorySegment kernelParameters;
  private final MemorySegment threads;
  private final MemorySegment schedule;
  private final MemorySegment run;
  private final MemorySegment onednn;
  private final String isa;
  private final String cpuIsa;

  /**
   * The library of this name; it stays loaded.
   *
   * @throws DeviceException saying where it was looked for and how it comes there
   */
  static synchronized NativeLibrary load(String name) {
    return LOADED.computeIfAbsent(name, NativeLibrary::new);
  }

  private NativeLibrary(String name) {
    file = find(name);
    try {
      symbols = SymbolLookup.libraryLookup(file, Arena.global());
    } catch (IllegalArgumentException e) {
      throw new DeviceException(file + " cannot be loaded: " + e.getMessage(), e);
    }
    int abi = abi(symbol("halter_abi"));
    if (abi != ABI) {
      throw new DeviceException(
          "%s has interface version %d, this build of Halter needs %d: build again"
              .formatted(file, abi, ABI));
    }
    error = symbol("halter_error");
    kernel = symbol("halter_kernel");
    kernelName = symbol("halter_kernel_name");
    kernelParameters = symbol("halter_kernel_parameters");
    threads = symbol("halter_threads");
    schedule = symbol("halter_schedule");
    run = symbol("halter_run");
    onednn = symbol("halter_onednn");
    isa = text(symbol("halter_isa"));
    if (isa == null) {
      throw new DeviceException(error());
    }
    cpuIsa = text(symbol("halter_cpu_isa"));
  }

  /** The instruction set in use. */
  String isa() {
    return isa;
  }

  /** The best that this CPU has; {@link #isa} is less where HALTER_MAX_ISA caps it. */
  String cpuIsa() {
    return cpuIsa;
  }

  /** What the last failing call of this thread complained about. */
  String error() {
    return text(error);
  }

  /** Sets the number of threads, 0 for one on each core, and returns it. */
  int threads(int count) {
    try {
      return (int) THREADS.invokeExact(threads, count);
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /** Leaves products to oneDNN, libdnnl.so.3 in this directory, or with null no more; 0 if so. */
  int onednn(Path directory) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment name =
          directory == null ? MemorySegment.NULL : arena.allocateFrom(directory.toString());
      return (int) ONEDNN.invokeExact(onednn, name);
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /** The number of a kernel, or -1. */
  int kernel(String name) {
    try (Arena arena = Arena.ofConfined()) {
      return (int) KERNEL.invokeExact(kernel, arena.allocateFrom(name));
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /** The name of a kernel, or null past the last. */
  String kernelName(int id) {
    try {
      return string((MemorySegment) KERNEL_NAME.invokeExact(kernelName, id));
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /** Bytes of each parameter of a kernel. */
  int[] kernelParameters(int id) {
    try (Arena arena = Arena.ofConfined()) {
      int count = (int) KERNEL_PARAMETERS.invokeExact(kernelParameters, id, MemorySegment.NULL, 0);
      MemorySegment sizes = arena.allocate(JAVA_INT, Math.max(1, count));
      count = (int) KERNEL_PARAMETERS.invokeExact(kernelParameters, id, sizes, count);
      return sizes.asSlice(0, 4L * count).toArray(JAVA_INT);
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /** Sets the schedule of the faithful build; each launch adds one to the seed. */
  int schedule(int kind, long seed) {
    try {
      return (int) SCHEDULE.invokeExact(schedule, kind, seed);
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /** Makes {@link Call}s, of which there are {@code count} in the memory; 0 if all went well. */
  int run(MemorySegment calls, long count) {
    try {
      return (int) RUN.invokeExact(run, calls, count);
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  private static Path find(String name) {
    Path file = NativeFiles.libraries().resolve(name).toAbsolutePath();
    if (!Files.isRegularFile(file)) {
      throw new DeviceException(
          "%s not found, looked in %s: mvn package builds it".formatted(name, file.getParent()));
    }
    return file;
  }

  private static int abi(MemorySegment function) {
    try {
      return (int) ABI_VERSION.invokeExact(function);
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  private static String text(MemorySegment function) {
    try {
      return string((MemorySegment) TEXT.invokeExact(function));
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  private static String string(MemorySegment pointer) {
    return pointer.address() == 0 ? null : pointer.reinterpret(Long.MAX_VALUE).getString(0);
  }

  private MemorySegment symbol(String name) {
    return symbols
        .find(name)
        .orElseThrow(() -> new DeviceException(file + " lacks " + name + ": build again"));
  }

  private static MethodHandle handle(MemoryLayout result, MemoryLayout... parameters) {
    return Linker.nativeLinker().downcallHandle(FunctionDescriptor.of(result, parameters));
  }
}
