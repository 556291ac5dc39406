package dev.halter.device.cuda;

import static jcuda.jcublas.JCublas2.cublasCreate;
import static jcuda.jcublas.JCublas2.cublasDestroy;
import static jcuda.jcublas.JCublas2.cublasGemmEx_new;
import static jcuda.jcublas.JCublas2.cublasGetVersion;
import static jcuda.jcublas.JCublas2.cublasSetMathMode;
import static jcuda.jcublas.JCublas2.cublasSetStream;
import static jcuda.jcublas.JCublas2.cublasSetWorkspace;

import dev.halter.device.DType;
import dev.halter.device.DeviceException;
import dev.halter.device.Matrix;
import dev.halter.files.NativeFiles;
import java.io.File;
import java.lang.System.Logger.Level;
import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import jcuda.cudaDataType;
import jcuda.driver.CUstream;
import jcuda.jcublas.JCublas2;
import jcuda.jcublas.cublasComputeType;
import jcuda.jcublas.cublasGemmAlgo;
import jcuda.jcublas.cublasHandle;
import jcuda.jcublas.cublasMath;
import jcuda.jcublas.cublasOperation;
import jcuda.jcublas.cublasStatus;
import jcuda.runtime.cudaStream_t;

/**
 * Matrix products by cuBLAS, called through JCublas2.
 *
 * <p>JCublas2 12.6 is linked against {@code libcublas.so.12}. The functions used here have the same
 * ABI in cuBLAS 13, so where only that is installed, {@code libcublas-forward.so} of the native
 * build is loaded first: it bears the name and symbol version of cuBLAS 12 and passes these few
 * functions on to {@code libcublas.so.13}.
 *
 * <p>Libraries are looked for in the folders of the system property {@code halter.cublas}, then
 * where the loader looks by itself, then in {@code /usr/local/cuda/lib64}; of each folder 12 before
 * 13.
 */
final class Cublas implements AutoCloseable {
  /** What cuBLAS wants on Hopper. Given explicitly, since graphs may not allocate. */
  static final long WORKSPACE = 32L << 20;

  private static final System.Logger LOG = System.getLogger(Cublas.class.getName());
  private static final Path TOOLKIT = Path.of("/usr/local/cuda/lib64");

  /** The library in use, once one is loaded: natives are there for good. */
  private static String library;

  private final cublasHandle handle = new cublasHandle();
  private final Address one;
  private final Address zero;
  private final String description;

  /**
   * @param workspace {@link #WORKSPACE} bytes of device memory
   */
  Cublas(CUstream stream, long workspace, Arena arena) {
    String file = library();
    one = new Address(arena.allocateFrom(ValueLayout.JAVA_FLOAT, 1));
    zero = new Address(arena.allocateFrom(ValueLayout.JAVA_FLOAT, 0));
    check(cublasCreate(handle), "starting cuBLAS");
    check(cublasSetStream(handle, new cudaStream_t(stream)), "setting cuBLAS's stream");
    check(
        cublasSetWorkspace(handle, new Address(workspace), WORKSPACE),
        "setting cuBLAS's workspace");
    // f32 stays f32 (no TF32), and partial sums of bf16 products stay f32.
    check(
        cublasSetMathMode(handle, cublasMath.CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION),
        "setting cuBLAS's mode");
    int[] version = new int[1];
    check(cublasGetVersion(handle, version), "asking for cuBLAS's version");
    description = "cuBLAS %s from %s".formatted(version(version[0]), file);
  }

  /** {@code 130100} is 13.1.0. */
  private static String version(int number) {
    return "%d.%d.%d".formatted(number / 10_000, number / 100 % 100, number % 100);
  }

  /** Version and file, for people. */
  String description() {
    return description;
  }

  /** See {@link CudaDevice#multiply}; arguments have been checked. */
  void multiply(int m, int n, int k, Matrix x, Matrix w, Matrix out) {
    // Row-major read as column-major is the transpose: outᵀ[n,m] = w[n,k] · xᵀ[k,m]. What lies
    // transposed in memory is there as that product has it.
    check(
        cublasGemmEx_new(
            handle,
            w.transposed() ? cublasOperation.CUBLAS_OP_N : cublasOperation.CUBLAS_OP_T,
            x.transposed() ? cublasOperation.CUBLAS_OP_T : cublasOperation.CUBLAS_OP_N,
            n,
            m,
            k,
            one,
            new Address(w.buffer().address()),
            type(w.type()),
            Math.toIntExact(w.rowStride()),
            new Address(x.buffer().address()),
            type(x.type()),
            Math.toIntExact(x.rowStride()),
            zero,
            new Address(out.buffer().address()),
            type(out.type()),
            Math.toIntExact(out.rowStride()),
            cublasComputeType.CUBLAS_COMPUTE_32F,
            cublasGemmAlgo.CUBLAS_GEMM_DEFAULT),
        "product of %d x %d x %d in %s".formatted(m, n, k, x.type()));
  }

  private static int type(DType type) {
    return type == DType.BF16 ? cudaDataType.CUDA_R_16BF : cudaDataType.CUDA_R_32F;
  }

  private static void check(int status, String what) {
    if (status != cublasStatus.CUBLAS_STATUS_SUCCESS) {
      throw new DeviceException(what + ": " + cublasStatus.stringFor(status));
    }
  }

  @Override
  public void close() {
    cublasDestroy(handle);
  }

  private static synchronized String library() {
    if (library == null) {
      library = load(folders());
      LOG.log(Level.INFO, "cuBLAS from " + library);
    }
    return library;
  }

  /** Loads cuBLAS from the first of these folders that has it, and returns its file. */
  static String load(List<String> folders) {
    List<String> tried = new ArrayList<>();
    String twelve = null;
    String thirteen = null;
    for (String folder : folders) {
      twelve = open(folder, "libcublas.so.12", tried);
      thirteen = twelve == null ? open(folder, "libcublas.so.13", tried) : null;
      if (twelve != null || thirteen != null) {
        break;
      }
    }
    if (twelve == null && thirteen == null) {
      throw new DeviceException(
          "cuBLAS not found (looked for "
              + String.join(", ", tried)
              + "): install it, or name its folder by -Dhalter.cublas=FOLDER");
    }
    if (thirteen != null) {
      Path forward = NativeFiles.libraries().resolve("libcublas-forward.so");
      if (open(forward.getParent().toString(), "libcublas-forward.so", tried) == null) {
        throw new DeviceException(
            thirteen + " is there, but " + forward + ", through which it is called, is not");
      }
    }
    try {
      JCublas2.initialize();
    } catch (LinkageError e) {
      throw new DeviceException(
          "JCublas2's native library does not load: "
              + String.valueOf(e.getMessage()).lines().findFirst().orElse(""),
          e);
    }
    return twelve != null ? twelve : thirteen + " (through libcublas-forward.so)";
  }

  /** An empty name stands for the loader's own search. */
  private static List<String> folders() {
    String named = System.getProperty("halter.cublas", "");
    return Stream.of(
            Stream.of(named.split(File.pathSeparator)).filter(folder -> !folder.isBlank()),
            Stream.of("", TOOLKIT.toString()))
        .flatMap(folder -> folder)
        .toList();
  }

  /** Loads a library for good and returns its file, or null if it is not there. */
  private static String open(String folder, String name, List<String> tried) {
    try {
      if (folder.isEmpty()) {
        tried.add(name);
        SymbolLookup.libraryLookup(name, Arena.global());
        return name;
      }
      Path file = Path.of(folder, name).toAbsolutePath();
      tried.add(file.toString());
      if (!Files.exists(file)) {
        return null;
      }
      // What it needs lies beside it, where the loader does not look by itself.
      Path light = Path.of(folder, name.replace("cublas", "cublasLt")).toAbsolutePath();
      if (Files.exists(light)) {
        SymbolLookup.libraryLookup(light, Arena.global());
      }
      SymbolLookup.libraryLookup(file, Arena.global());
      return file.toString();
    } catch (IllegalArgumentException e) {
      return null;
    }
  }
}
