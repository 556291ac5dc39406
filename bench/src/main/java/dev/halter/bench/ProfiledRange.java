package dev.halter.bench;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;

/**
 * The part of a run that a profiler looks at: {@code ncu --profile-from-start off} records the
 * kernels between {@link #start} and {@link #stop}. Without a driver both do nothing.
 */
final class ProfiledRange {
  private ProfiledRange() {}

  static void start() {
    call("cuProfilerStart");
  }

  static void stop() {
    call("cuProfilerStop");
  }

  private static void call(String name) {
    try {
      SymbolLookup driver = SymbolLookup.libraryLookup("libcuda.so.1", Arena.global());
      if (driver.find(name).isPresent()) {
        int status =
            (int)
                Linker.nativeLinker()
                    .downcallHandle(
                        driver.findOrThrow(name), FunctionDescriptor.of(ValueLayout.JAVA_INT))
                    .invokeExact();
        if (status != 0) {
          throw new IllegalStateException(name + ": " + status);
        }
      }
    } catch (IllegalArgumentException e) {
      return; // no driver
    } catch (RuntimeException e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }
}
