package dev.halter.device.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.files.NativeFiles;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.file.Path;

/**
 * The CUDA device of tests: a stand-in for the driver over host memory, or, with {@code
 * -Dhalter.test.cuda=real}, the machine's own GPU.
 */
public final class TestCuda {
  /** Whether tests run on a GPU. */
  public static final boolean REAL = "real".equals(System.getProperty("halter.test.cuda"));

  private TestCuda() {}

  /**
   * A CUDA device; the caller closes it. Closing the stand-in fails if there was anything in its
   * report.
   */
  public static Device open() {
    return open(0);
  }

  /**
   * As above; the stand-in's card has this compute capability, as 90 for 9.0. A GPU has its own.
   *
   * @param capability 0 for the stand-in's own
   */
  public static Device open(int capability) {
    if (REAL) {
      return CudaDevice.open(0);
    }
    if (capability > 0) {
      StandIn.set("capability", capability);
    }
    Device device = StandIn.open();
    return (Device)
        Proxy.newProxyInstance(
            Device.class.getClassLoader(),
            new Class<?>[] {Device.class},
            (proxy, method, arguments) -> {
              try {
                return method.invoke(device, arguments);
              } catch (InvocationTargetException e) {
                throw e.getCause();
              } finally {
                if (method.getName().equals("close")) {
                  String report = StandIn.report();
                  StandIn.reset();
                  assertEquals("", report, "the stand-in's report");
                }
              }
            });
  }

  /** Calls of a function of the driver, of a stand-in's device, since one was closed last. */
  public static long calls(String function) {
    return StandIn.calls(function);
  }

  /** The stand-in's libcuda.so.1, once loaded: JCuda's natives bind to it by that name. */
  static final class StandIn {
    private static final Path DIRECTORY =
        NativeFiles.libraries().resolve("test/cuda-stand-in").toAbsolutePath();
    private static final MethodHandle REPORT;
    private static final MethodHandle RESET;
    private static final MethodHandle SET;
    private static final MethodHandle RUNS;
    private static final MethodHandle CALLS;

    static {
      if (REAL) {
        throw new DeviceException("the stand-in is not loaded beside a real driver");
      }
      // Before any class of JCuda; and cuBLAS from here, whatever else the machine has.
      System.setProperty("halter.cublas", DIRECTORY.toString());
      SymbolLookup library =
          SymbolLookup.libraryLookup(DIRECTORY.resolve("libcuda.so.1"), Arena.global());
      REPORT = function(library, "stand_in_report", FunctionDescriptor.of(ValueLayout.ADDRESS));
      RESET = function(library, "stand_in_reset", FunctionDescriptor.ofVoid());
      SET =
          function(
              library,
              "stand_in_set",
              FunctionDescriptor.ofVoid(ValueLayout.ADDRESS, ValueLayout.JAVA_LONG));
      RUNS = function(library, "stand_in_runs", FunctionDescriptor.of(ValueLayout.JAVA_LONG));
      CALLS =
          function(
              library,
              "stand_in_calls",
              FunctionDescriptor.of(ValueLayout.JAVA_LONG, ValueLayout.ADDRESS));
    }

    private StandIn() {}

    private static MethodHandle function(
        SymbolLookup library, String name, FunctionDescriptor type) {
      return Linker.nativeLinker().downcallHandle(library.findOrThrow(name), type);
    }

    /** A device whose report is the caller's business. */
    static Device open() {
      return open(0);
    }

    /** As above, the card of this number. */
    static Device open(int card) {
      return CudaDevice.open(card, DIRECTORY.resolve("kernels"));
    }

    /** What went wrong so far, a line each; empty if nothing. */
    static String report() {
      try {
        MemorySegment text = (MemorySegment) REPORT.invokeExact();
        return text.reinterpret(Long.MAX_VALUE).getString(0);
      } catch (Throwable e) {
        throw new AssertionError(e);
      }
    }

    /** Forgets the report and every setting. */
    static void reset() {
      try {
        RESET.invokeExact();
      } catch (Throwable e) {
        throw new AssertionError(e);
      }
    }

    /** Makes the stand-in another machine: see stand_in.h. */
    static void set(String what, long value) {
      try (Arena arena = Arena.ofConfined()) {
        SET.invokeExact(arena.allocateFrom(what), value);
      } catch (Throwable e) {
        throw new AssertionError(e);
      }
    }

    /** Calls of a function of the driver since the last reset. */
    static long calls(String function) {
      try (Arena arena = Arena.ofConfined()) {
        return (long) CALLS.invokeExact(arena.allocateFrom(function));
      } catch (Throwable e) {
        throw new AssertionError(e);
      }
    }

    /** Kernels run since the last reset. */
    static long runs() {
      try {
        return (long) RUNS.invokeExact();
      } catch (Throwable e) {
        throw new AssertionError(e);
      }
    }
  }
}
