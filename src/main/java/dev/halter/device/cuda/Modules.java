package dev.halter.device.cuda;

import static jcuda.driver.JCudaDriver.cuFuncGetAttribute;
import static jcuda.driver.JCudaDriver.cuFuncSetAttribute;
import static jcuda.driver.JCudaDriver.cuModuleGetFunction;
import static jcuda.driver.JCudaDriver.cuModuleLoadData;
import static jcuda.driver.JCudaDriver.cuModuleUnload;

import dev.halter.device.DeviceException;
import dev.halter.device.Kernel;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import jcuda.driver.CUdevice_attribute;
import jcuda.driver.CUfunction_attribute;
import jcuda.driver.CUresult;

/** The kernels of a folder of fatbins, and what each may have of a block's threads and memory. */
final class Modules implements AutoCloseable {
  /** A fatbin for some cards only, whose work portable kernels do on the others. */
  private static final Pattern TUNED = Pattern.compile(".*_sm[0-9]+\\.fatbin");

  private final Driver driver;
  private final Context context;
  private final Arena arena;
  private final int sharedLimit;
  private final List<Driver.Module> modules = new ArrayList<>();
  private final Map<String, Driver.Module> homes = new TreeMap<>(); // of kernels, by name
  private final Map<String, Kernel> kernels = new HashMap<>();
  private final List<Loaded> loaded = new ArrayList<>();

  /** A kernel's function and what it has been granted so far; a Kernel's handle is its index. */
  private static final class Loaded {
    final Driver.Function function;
    final int staticShared;
    final int maxThreads;
    int dynamicShared;

    Loaded(Driver.Function function) {
      this.function = function;
      this.staticShared =
          attribute(function, CUfunction_attribute.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
      this.maxThreads =
          attribute(function, CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
      this.dynamicShared = 48 * 1024 - staticShared; // what every kernel may have unasked
    }

    private static int attribute(Driver.Function function, int attribute) {
      int[] value = new int[1];
      Driver.check(cuFuncGetAttribute(value, attribute, function), "asking for a kernel's limits");
      return value[0];
    }
  }

  /**
   * Loads them.
   *
   * @param arena in which kernels' arguments are packed
   */
  Modules(Driver driver, Context context, List<Path> fatbins, Arena arena) {
    this.driver = driver;
    this.context = context;
    this.arena = arena;
    this.sharedLimit =
        context.attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    try {
      fatbins.forEach(this::load);
    } catch (RuntimeException | Error e) {
      close();
      throw e;
    }
  }

  /**
   * The fatbins of a folder.
   *
   * @throws DeviceException if there is none
   */
  static List<Path> fatbins(Path directory) {
    List<Path> fatbins = List.of();
    if (Files.isDirectory(directory)) {
      try (Stream<Path> files = Files.list(directory)) {
        fatbins = files.filter(file -> file.toString().endsWith(".fatbin")).sorted().toList();
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }
    if (fatbins.isEmpty()) {
      throw new DeviceException(
          "no CUDA kernels in "
              + directory
              + ": Halter was built without nvcc; build it where the CUDA toolkit is");
    }
    return fatbins;
  }

  private void load(Path fatbin) {
    byte[] image;
    try {
      image = Files.readAllBytes(fatbin);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    Driver.Module module = new Driver.Module();
    int status = cuModuleLoadData(module, image);
    switch (status) {
      case CUresult.CUDA_SUCCESS -> {
        modules.add(module);
        // Asking a module for what it has not is an error in the eyes of compute-sanitizer.
        driver.kernels(module).forEach(name -> homes.putIfAbsent(name, module));
      }
      case CUresult.CUDA_ERROR_NO_BINARY_FOR_GPU -> {
        if (!TUNED.matcher(fatbin.getFileName().toString()).matches()) {
          throw new DeviceException(
              "%s holds no code for %s that the NVIDIA driver (CUDA %s) can use"
                  .formatted(fatbin, context.description(), Context.driverVersion()));
        }
      }
      case CUresult.CUDA_ERROR_UNSUPPORTED_PTX_VERSION, CUresult.CUDA_ERROR_INVALID_IMAGE ->
          throw new DeviceException(
              "the NVIDIA driver (CUDA %s) cannot read %s: it is too old for the CUDA toolkit that"
                      .formatted(Context.driverVersion(), fatbin)
                  + " built the kernels, or the file is damaged ("
                  + Driver.error(status)
                  + ")");
      default -> Driver.check(status, "loading " + fatbin);
    }
  }

  /** See {@link CudaDevice#kernel}. */
  Kernel kernel(String name) {
    return kernels.computeIfAbsent(name, this::find);
  }

  private Kernel find(String name) {
    Driver.Module home = homes.get(name);
    if (home == null) {
      throw new IllegalArgumentException(
          "no kernel '" + name + "': there are " + String.join(", ", homes.keySet()));
    }
    Driver.Function function = new Driver.Function();
    Driver.check(cuModuleGetFunction(function, home, name), "finding kernel " + name);
    loaded.add(new Loaded(function));
    return new Kernel(name, loaded.size() - 1, driver.parameterBytes(function), arena);
  }

  /**
   * A kernel's function, which may be launched in such blocks.
   *
   * @param sharedBytes dynamic shared memory, which is granted where it is more than before
   * @throws IllegalArgumentException if the kernel cannot have so many threads
   * @throws DeviceException if the card has not so much shared memory
   */
  Driver.Function function(Kernel kernel, int block, int sharedBytes) {
    Loaded target = loaded.get(Math.toIntExact(kernel.handle()));
    if (block < 1 || block > target.maxThreads) {
      throw new IllegalArgumentException(
          "kernel %s cannot have %d threads in a block: 1 to %d"
              .formatted(kernel.name(), block, target.maxThreads));
    }
    if (sharedBytes > target.dynamicShared) {
      grant(kernel, target, sharedBytes);
    }
    return target.function;
  }

  /** Above 48 KB of shared memory a kernel has to ask. */
  private void grant(Kernel kernel, Loaded target, int sharedBytes) {
    if (sharedBytes > sharedLimit - target.staticShared) {
      throw new DeviceException(
          "kernel %s wants %,d bytes of shared memory, %,d of them fixed; %s has %,d"
              .formatted(
                  kernel.name(),
                  (long) sharedBytes + target.staticShared,
                  target.staticShared,
                  context.description(),
                  sharedLimit));
    }
    Driver.check(
        cuFuncSetAttribute(
            target.function,
            CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
            sharedBytes),
        "granting kernel %s %,d bytes of shared memory".formatted(kernel.name(), sharedBytes));
    target.dynamicShared = sharedBytes;
  }

  /** Most shared memory of a block, in bytes. */
  int sharedLimit() {
    return sharedLimit;
  }

  @Override
  public void close() {
    modules.forEach(module -> cuModuleUnload(module));
  }
}
