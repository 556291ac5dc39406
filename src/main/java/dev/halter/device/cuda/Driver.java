package dev.halter.device.cuda;

import dev.halter.device.DeviceException;
import dev.halter.device.Matrix;
import dev.halter.device.NoDriverException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import jcuda.driver.CUfunction;
import jcuda.driver.CUmodule;
import jcuda.driver.CUresult;
import jcuda.driver.CUstream;
import jcuda.driver.JCudaDriver;

/** The CUDA driver: whether it is there, its errors as exceptions, and the calls JCuda lacks. */
final class Driver {
  private static final String LIBRARY = "libcuda.so.1";

  private final MethodHandle parameterInfo;
  private final MethodHandle functionCount;
  private final MethodHandle functions;
  private final MethodHandle functionName;
  private final MethodHandle encodeTiled; // null where the driver is older than tensor maps
  private final MethodHandle launchEx; // null where it is older than attributes of launches

  /** A kernel's handle; JCuda keeps the address to itself. */
  static final class Function extends CUfunction {
    long value() {
      return getNativePointer();
    }
  }

  /** A stream's handle; JCuda keeps the address to itself. */
  static final class Stream extends CUstream {
    long value() {
      return getNativePointer();
    }
  }

  /** A loaded fatbin; JCuda keeps the address to itself. */
  static final class Module extends CUmodule {
    long value() {
      return getNativePointer();
    }
  }

  /**
   * Finds the driver's library, and JCuda's that binds to it.
   *
   * @throws NoDriverException if the machine has no driver
   * @throws DeviceException saying in one line what is missing else
   */
  Driver() {
    SymbolLookup library;
    try {
      library = SymbolLookup.libraryLookup(LIBRARY, Arena.global());
    } catch (IllegalArgumentException e) {
      throw new NoDriverException("no NVIDIA driver: " + LIBRARY + " not found", e);
    }
    try {
      JCudaDriver.setExceptionsEnabled(false);
    } catch (LinkageError e) {
      throw new DeviceException(
          "JCuda's native library does not load: "
              + String.valueOf(e.getMessage()).lines().findFirst().orElse(""),
          e);
    }
    var address = ValueLayout.ADDRESS;
    var size = ValueLayout.JAVA_LONG;
    var count = ValueLayout.JAVA_INT;
    parameterInfo = call(library, "cuFuncGetParamInfo", size, size, address, address);
    functionCount = call(library, "cuModuleGetFunctionCount", address, size);
    functions = call(library, "cuModuleEnumerateFunctions", address, count, size);
    functionName = call(library, "cuFuncGetName", address, size);
    encodeTiled =
        library
            .find("cuTensorMapEncodeTiled")
            .map(
                function ->
                    Linker.nativeLinker()
                        .downcallHandle(
                            function,
                            FunctionDescriptor.of(
                                count, address, count, count, size, address, address, address,
                                address, count, count, count, count)))
            .orElse(null);
    launchEx =
        library
            .find("cuLaunchKernelEx")
            .map(
                function ->
                    Linker.nativeLinker()
                        .downcallHandle(
                            function,
                            FunctionDescriptor.of(count, address, size, address, address)))
            .orElse(null);
  }

  /**
   * Starts the driver.
   *
   * @throws DeviceException if it shows no card
   */
  void start() {
    int status = JCudaDriver.cuInit(0);
    if (status == CUresult.CUDA_ERROR_NO_DEVICE) {
      String visible = System.getenv("CUDA_VISIBLE_DEVICES");
      throw new DeviceException(
          "no CUDA device" + (visible == null ? "" : " (CUDA_VISIBLE_DEVICES=" + visible + ")"));
    }
    check(status, "starting the CUDA driver");
  }

  private static MethodHandle call(
      SymbolLookup library, String name, java.lang.foreign.MemoryLayout... arguments) {
    MemorySegment function =
        library
            .find(name)
            .orElseThrow(
                () ->
                    new DeviceException(
                        "the NVIDIA driver is too old: it lacks "
                            + name
                            + " of CUDA 12.4; install driver 580 or later"));
    return Linker.nativeLinker()
        .downcallHandle(function, FunctionDescriptor.of(ValueLayout.JAVA_INT, arguments));
  }

  /** Throws unless {@code status} is success. */
  static void check(int status, String what) {
    if (status != CUresult.CUDA_SUCCESS) {
      throw new DeviceException(what + ": " + error(status));
    }
  }

  /** {@code "CUDA_ERROR_ILLEGAL_ADDRESS (700), an illegal memory access was encountered"}. */
  static String error(int status) {
    String[] text = new String[1];
    boolean known = JCudaDriver.cuGetErrorString(status, text) == CUresult.CUDA_SUCCESS;
    return CUresult.stringFor(status) + " (" + status + ")" + (known ? ", " + text[0] : "");
  }

  /** Bytes of each parameter of a kernel. */
  int[] parameterBytes(Function function) {
    List<Integer> sizes = new ArrayList<>();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment offset = arena.allocate(ValueLayout.JAVA_LONG);
      MemorySegment bytes = arena.allocate(ValueLayout.JAVA_LONG);
      while ((int) parameterInfo.invokeExact(function.value(), (long) sizes.size(), offset, bytes)
          == CUresult.CUDA_SUCCESS) {
        sizes.add(Math.toIntExact(bytes.get(ValueLayout.JAVA_LONG, 0)));
      }
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
    return sizes.stream().mapToInt(Integer::intValue).toArray();
  }

  /** See {@link dev.halter.device.Device#encodeTensorMap}. */
  void encodeTensorMap(MemorySegment map, Matrix matrix, int rows, int columns, int boxRows) {
    int bf16 = 9; // CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
    int swizzle128 = 3; // CU_TENSOR_MAP_SWIZZLE_128B
    int promote256 = 3; // CU_TENSOR_MAP_L2_PROMOTION_L2_256B
    if (encodeTiled == null) {
      throw new DeviceException("the NVIDIA driver is too old: it lacks cuTensorMapEncodeTiled");
    }
    try (Arena arena = Arena.ofConfined()) {
      int status =
          (int)
              encodeTiled.invokeExact(
                  map,
                  bf16,
                  2,
                  matrix.buffer().address(),
                  arena.allocateFrom(ValueLayout.JAVA_LONG, columns, rows),
                  arena.allocateFrom(ValueLayout.JAVA_LONG, 2 * matrix.rowStride()),
                  arena.allocateFrom(ValueLayout.JAVA_INT, 64, boxRows),
                  arena.allocateFrom(ValueLayout.JAVA_INT, 1, 1),
                  0,
                  swizzle128,
                  promote256,
                  0);
      check(status, "describing a matrix of %d x %d to the copy engine".formatted(rows, columns));
    } catch (DeviceException e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /** Whether {@link #launch} is there. */
  boolean launchesWithAttributes() {
    return launchEx != null;
  }

  /** Launches a kernel as a {@code CUlaunchConfig} says; returns the status. */
  int launch(MemorySegment config, Function function, MemorySegment arguments) {
    try {
      return (int) launchEx.invokeExact(config, function.value(), arguments, MemorySegment.NULL);
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /** Names of the kernels in a module. */
  List<String> kernels(Module module) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment count = arena.allocate(ValueLayout.JAVA_INT);
      check((int) functionCount.invokeExact(count, module.value()), "counting kernels");
      int n = count.get(ValueLayout.JAVA_INT, 0);
      MemorySegment handles = arena.allocate(ValueLayout.JAVA_LONG, n);
      check((int) functions.invokeExact(handles, n, module.value()), "listing kernels");
      return IntStream.range(0, n)
          .mapToObj(i -> name(handles.getAtIndex(ValueLayout.JAVA_LONG, i), arena))
          .sorted()
          .toList();
    } catch (DeviceException e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  private String name(long function, Arena arena) {
    try {
      MemorySegment name = arena.allocate(ValueLayout.ADDRESS);
      check((int) functionName.invokeExact(name, function), "naming a kernel");
      return name.get(ValueLayout.ADDRESS, 0).reinterpret(Long.MAX_VALUE).getString(0);
    } catch (DeviceException e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }
}
