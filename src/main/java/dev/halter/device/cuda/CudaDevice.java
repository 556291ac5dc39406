package dev.halter.device.cuda;

import static jcuda.driver.JCudaDriver.cuCtxSetCurrent;
import static jcuda.driver.JCudaDriver.cuDeviceGet;
import static jcuda.driver.JCudaDriver.cuDeviceGetAttribute;
import static jcuda.driver.JCudaDriver.cuDeviceGetName;
import static jcuda.driver.JCudaDriver.cuDevicePrimaryCtxRelease;
import static jcuda.driver.JCudaDriver.cuDevicePrimaryCtxRetain;
import static jcuda.driver.JCudaDriver.cuDriverGetVersion;
import static jcuda.driver.JCudaDriver.cuFuncGetAttribute;
import static jcuda.driver.JCudaDriver.cuFuncSetAttribute;
import static jcuda.driver.JCudaDriver.cuGraphDestroy;
import static jcuda.driver.JCudaDriver.cuInit;
import static jcuda.driver.JCudaDriver.cuLaunchKernel;
import static jcuda.driver.JCudaDriver.cuMemAlloc;
import static jcuda.driver.JCudaDriver.cuMemFree;
import static jcuda.driver.JCudaDriver.cuMemGetInfo;
import static jcuda.driver.JCudaDriver.cuMemcpyDtoDAsync;
import static jcuda.driver.JCudaDriver.cuMemsetD8Async;
import static jcuda.driver.JCudaDriver.cuModuleGetFunction;
import static jcuda.driver.JCudaDriver.cuModuleLoadData;
import static jcuda.driver.JCudaDriver.cuModuleUnload;
import static jcuda.driver.JCudaDriver.cuStreamBeginCapture;
import static jcuda.driver.JCudaDriver.cuStreamCreate;
import static jcuda.driver.JCudaDriver.cuStreamDestroy;
import static jcuda.driver.JCudaDriver.cuStreamEndCapture;
import static jcuda.driver.JCudaDriver.cuStreamSynchronize;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Graph;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.device.NativeFiles;
import dev.halter.device.OutOfDeviceMemoryException;
import dev.halter.device.TiledTop;
import dev.halter.device.Top;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import jcuda.driver.CUcontext;
import jcuda.driver.CUdevice;
import jcuda.driver.CUdevice_attribute;
import jcuda.driver.CUfunction_attribute;
import jcuda.driver.CUgraph;
import jcuda.driver.CUresult;
import jcuda.driver.CUstream;
import jcuda.driver.CUstreamCaptureMode;
import jcuda.driver.CUstream_flags;

/**
 * The first CUDA device that the driver shows ({@code CUDA_VISIBLE_DEVICES} chooses), with the
 * kernels of the fatbins of {@link NativeFiles#kernels}.
 *
 * <p>One stream carries all work, in call order, but for {@link #upload}. What fails on the card
 * shows at the next call that waits for it; with {@code -Dhalter.sync=true} every launch is waited
 * for, so that the error names the kernel.
 *
 * <p>Kernels of this project give a row the same result whatever else is in the batch. cuBLAS does
 * not promise that: it may choose another algorithm, so another order of summation, for another
 * number of rows.
 */
public final class CudaDevice implements Device {
  /** What failed when an error shows that belongs to no call of its own. */
  static final String QUEUED =
      "work queued earlier failed (run with -Dhalter.sync=true to have the kernel named)";

  /**
   * System property: by what {@link #multiplyTop} works. {@code cublas}: tiles by cuBLAS and kernel
   * {@code top_tokens}. {@code sm80} or {@code sm90}: one kernel on tensor cores, for bf16. {@code
   * auto}, the default, takes {@code sm90} on the cards that have it, where it was measured twice
   * as fast as cuBLAS; {@code sm80} is slower than cuBLAS there.
   */
  static final String MULTIPLY_TOP = "halter.multiply_top";

  /** A fatbin for some cards only, whose work portable kernels do on the others. */
  private static final Pattern TUNED = Pattern.compile(".*_sm[0-9]+\\.fatbin");

  private final Driver driver;
  private final CUdevice device = new CUdevice();
  private final CUcontext context = new CUcontext();
  private final CUstream stream = new CUstream();
  private final Arena arena = Arena.ofShared();
  private final List<Driver.Module> modules = new ArrayList<>();
  private final Map<String, Kernel> kernels = new HashMap<>();
  private final List<Loaded> loaded = new ArrayList<>();
  private final Set<Long> allocations = new HashSet<>();
  private final Set<CudaGraph> graphs = new HashSet<>();
  private final String description;
  private final int sharedLimit;
  private final boolean synchronous = Boolean.getBoolean("halter.sync");
  private final TiledTop tiledTop = new TiledTop(this);
  private final TensorTop tensorTop; // null: all by tiledTop
  private final CUstream uploadStream = new CUstream();
  private final Staging staging;
  private final Staging uploads;
  private final Cublas cublas;
  private boolean recording;
  private boolean open;

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
   * Opens the device.
   *
   * @throws DeviceException saying in one line which of driver, card, kernels or cuBLAS is missing
   */
  public static Device open() {
    return new CudaDevice(NativeFiles::kernels);
  }

  /**
   * Opens the device with the fatbins of another folder.
   *
   * @throws DeviceException as {@link #open()}
   */
  public static Device open(Path kernels) {
    return new CudaDevice(() -> kernels);
  }

  /**
   * @param kernels their folder; not asked for, which may unpack it, where there is no driver
   */
  private CudaDevice(Supplier<Path> kernels) {
    driver = new Driver();
    int status = cuInit(0);
    if (status == CUresult.CUDA_ERROR_NO_DEVICE) {
      String visible = System.getenv("CUDA_VISIBLE_DEVICES");
      throw new DeviceException(
          "no CUDA device" + (visible == null ? "" : " (CUDA_VISIBLE_DEVICES=" + visible + ")"));
    }
    Driver.check(status, "starting the CUDA driver");
    List<Path> fatbins = fatbins(kernels.get());
    Driver.check(cuDeviceGet(device, 0), "finding CUDA device 0");
    Driver.check(cuDevicePrimaryCtxRetain(context, device), "opening CUDA device 0");
    open = true;
    try {
      bind();
      description = describe();
      sharedLimit =
          attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
      for (CUstream created : List.of(stream, uploadStream)) {
        Driver.check(
            cuStreamCreate(created, CUstream_flags.CU_STREAM_NON_BLOCKING), "creating a stream");
      }
      for (Path fatbin : fatbins) {
        load(fatbin);
      }
      staging = new Staging(stream);
      uploads = new Staging(uploadStream);
      cublas = new Cublas(stream, allocate(Cublas.WORKSPACE).address(), arena);
      tensorTop = tensorTop(System.getProperty(MULTIPLY_TOP, "auto"));
    } catch (RuntimeException | Error e) {
      close();
      throw e;
    }
  }

  /** What {@link #MULTIPLY_TOP} asks for, or null for cuBLAS. */
  private TensorTop tensorTop(String name) {
    int capability = capability();
    TensorTop.Form form =
        switch (name) {
          case "auto" -> capability == 90 ? TensorTop.Form.SM90 : null;
          case "cublas" -> null;
          case "sm80" -> TensorTop.Form.SM80;
          case "sm90" -> TensorTop.Form.SM90;
          default ->
              throw new DeviceException(
                  "-D%s=%s: choose auto, cublas, sm80 or sm90".formatted(MULTIPLY_TOP, name));
        };
    if (form == null) {
      return null;
    }
    if (form == TensorTop.Form.SM90 ? capability != 90 : capability < 80) {
      throw new DeviceException(
          "-D%s=%s is not for %s: choose %s"
              .formatted(
                  MULTIPLY_TOP, name, description, capability < 80 ? "cublas" : "cublas or sm80"));
    }
    return new TensorTop(
        this,
        driver::encodeTensorMap,
        form,
        attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
        sharedLimit,
        attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
        arena);
  }

  private static List<Path> fatbins(Path directory) {
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
      case CUresult.CUDA_SUCCESS -> modules.add(module);
      case CUresult.CUDA_ERROR_NO_BINARY_FOR_GPU -> {
        if (!TUNED.matcher(fatbin.getFileName().toString()).matches()) {
          throw new DeviceException(
              "%s holds no code for %s that the NVIDIA driver (CUDA %s) can use"
                  .formatted(fatbin, description, driverVersion()));
        }
      }
      case CUresult.CUDA_ERROR_UNSUPPORTED_PTX_VERSION, CUresult.CUDA_ERROR_INVALID_IMAGE ->
          throw new DeviceException(
              "the NVIDIA driver (CUDA %s) cannot read %s: it is too old for the CUDA toolkit that"
                      .formatted(driverVersion(), fatbin)
                  + " built the kernels, or the file is damaged ("
                  + Driver.error(status)
                  + ")");
      default -> Driver.check(status, "loading " + fatbin);
    }
  }

  private String describe() {
    byte[] name = new byte[256];
    Driver.check(cuDeviceGetName(name, name.length, device), "asking for the card's name");
    int end = 0;
    while (end < name.length && name[end] != 0) {
      end++;
    }
    return "%s (sm_%d)".formatted(new String(name, 0, end, StandardCharsets.UTF_8), capability());
  }

  /** 90 for 9.0. */
  private int capability() {
    return 10 * attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
        + attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  }

  private int attribute(int attribute) {
    int[] value = new int[1];
    Driver.check(cuDeviceGetAttribute(value, attribute, device), "asking for the card's limits");
    return value[0];
  }

  private static String driverVersion() {
    int[] version = new int[1];
    Driver.check(cuDriverGetVersion(version), "asking for the driver's version");
    return version[0] / 1000 + "." + version[0] % 1000 / 10;
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
    Driver.check(cuCtxSetCurrent(context), "entering the CUDA context, or " + QUEUED);
  }

  /** As {@link #bind}, for closing, where what has failed must not keep the rest from its end. */
  void bindUnchecked() {
    cuCtxSetCurrent(context);
  }

  /** As {@link #bind}, for what cannot be part of a graph. */
  private void bindOutsideRecord(String what) {
    bind();
    if (recording) {
      throw new IllegalStateException(what + " cannot be recorded in a graph");
    }
  }

  @Override
  public String description() {
    return description;
  }

  @Override
  public String kind() {
    return "cuda";
  }

  @Override
  public String toString() {
    return description;
  }

  @Override
  public List<String> details() {
    String top = tensorTop == null ? "cuBLAS and top_tokens" : tensorTop.description();
    return List.of(
        "CUDA driver " + driverVersion(),
        cublas.description(),
        "largest entries of products by %s (-D%s)".formatted(top, MULTIPLY_TOP));
  }

  @Override
  public Memory memory() {
    bind();
    long[] free = new long[1];
    long[] total = new long[1];
    Driver.check(cuMemGetInfo(free, total), "asking for free memory");
    return new Memory(total[0], free[0]);
  }

  /** As the activations: cuBLAS wants both factors in one type. */
  @Override
  public DType weightType(DType file, DType activations) {
    return activations;
  }

  @Override
  public boolean sharesHostMemory() {
    return false;
  }

  @Override
  public Buffer allocate(long bytes) {
    if (bytes < 0) {
      throw new IllegalArgumentException("cannot allocate " + bytes + " bytes");
    }
    bindOutsideRecord("an allocation");
    Address address = new Address();
    int status = cuMemAlloc(address, Math.max(1, bytes));
    if (status == CUresult.CUDA_ERROR_OUT_OF_MEMORY) {
      throw new OutOfDeviceMemoryException(bytes, memory());
    }
    Driver.check(status, "allocating " + bytes + " bytes");
    allocations.add(address.value());
    return new Buffer(this, address.value(), bytes);
  }

  /**
   * {@inheritDoc}
   *
   * <p>Nothing queued so far can touch fresh memory, so the copy runs beside it, on a stream of its
   * own; what is queued from here on waits for the copy.
   */
  @Override
  public Buffer upload(MemorySegment host) {
    Buffer buffer = allocate(host.byteSize());
    uploads.up(host, buffer.address(), host.byteSize());
    uploads.hold(stream);
    return buffer;
  }

  @Override
  public Kernel kernel(String name) {
    bind();
    return kernels.computeIfAbsent(name, this::find);
  }

  private Kernel find(String name) {
    Driver.Function function = new Driver.Function();
    for (Driver.Module module : modules) {
      int status = cuModuleGetFunction(function, module, name);
      if (status == CUresult.CUDA_SUCCESS) {
        loaded.add(new Loaded(function));
        return new Kernel(name, loaded.size() - 1, driver.parameterBytes(function), arena);
      }
      if (status != CUresult.CUDA_ERROR_NOT_FOUND) {
        Driver.check(status, "finding kernel " + name);
      }
    }
    Set<String> known = new TreeSet<>();
    modules.forEach(module -> known.addAll(driver.kernels(module)));
    throw new IllegalArgumentException(
        "no kernel '" + name + "': there are " + String.join(", ", known));
  }

  @Override
  public void launch(Kernel kernel, Grid grid, int block, int sharedBytes, Object... arguments) {
    bind();
    Loaded target = loaded.get(Math.toIntExact(kernel.handle()));
    if (block < 1 || block > target.maxThreads) {
      throw new IllegalArgumentException(
          "kernel %s cannot have %d threads in a block: 1 to %d"
              .formatted(kernel.name(), block, target.maxThreads));
    }
    if (sharedBytes > target.dynamicShared) {
      grant(kernel, target, sharedBytes);
    }
    Driver.check(
        cuLaunchKernel(
            target.function,
            grid.x(),
            grid.y(),
            grid.z(),
            block,
            1,
            1,
            sharedBytes,
            stream,
            new Address(kernel.pack(arguments)),
            null),
        "launching kernel " + kernel.name());
    if (synchronous && !recording) {
      Driver.check(cuStreamSynchronize(stream), "kernel " + kernel.name() + " failed");
    }
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
                  description,
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

  /**
   * {@inheritDoc}
   *
   * <p>{@code x} and {@code w} have one type. In f32, products and sums are f32 (no TF32); cuBLAS
   * may choose another order of summation for another {@code m}.
   */
  @Override
  public void multiply(int m, int n, int k, Matrix x, Matrix w, Matrix out) {
    bind();
    if (m < 1 || n < 1 || k < 1) {
      throw new IllegalArgumentException("no product of %d x %d x %d".formatted(m, n, k));
    }
    boolean types =
        (x.type() == DType.F32 || x.type() == DType.BF16)
            && w.type() == x.type()
            && (out.type() == DType.F32 || out.type() == x.type());
    if (!types) {
      throw new IllegalArgumentException(
          "no product of %s by %s into %s on CUDA".formatted(x.type(), w.type(), out.type()));
    }
    x.requireHolds("x", m, k);
    w.requireHolds("w", n, k);
    out.requireHolds("out", m, n);
    cublas.multiply(m, n, k, x, w, out);
  }

  @Override
  public void multiplyTop(int m, int n, int k, Matrix x, Matrix w, Top top) {
    bind();
    if (tensorTop != null && TensorTop.takes(k, x, w, top)) {
      tensorTop.multiply(m, n, k, x, w, top);
    } else {
      tiledTop.multiply(m, n, k, x, w, top);
    }
  }

  /**
   * {@inheritDoc}
   *
   * <p>Better run {@code work} once before: the driver and cuBLAS load code at first use.
   */
  @Override
  public Graph record(Runnable work) {
    bindOutsideRecord("a graph");
    // Relaxed: a kernel's code may have to be loaded meanwhile, which strict modes forbid.
    Driver.check(
        cuStreamBeginCapture(stream, CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED),
        "recording a graph");
    CUgraph captured = new CUgraph();
    recording = true;
    try {
      work.run();
    } catch (RuntimeException | Error e) {
      recording = false;
      if (cuStreamEndCapture(stream, captured) == CUresult.CUDA_SUCCESS) {
        cuGraphDestroy(captured);
      }
      throw e;
    }
    recording = false;
    Driver.check(cuStreamEndCapture(stream, captured), "recording a graph");
    CudaGraph graph = new CudaGraph(this, captured, stream);
    graphs.add(graph);
    return graph;
  }

  void forget(CudaGraph graph) {
    graphs.remove(graph);
  }

  @Override
  public void synchronize() {
    bindOutsideRecord("waiting");
    Driver.check(cuStreamSynchronize(stream), QUEUED);
  }

  /** Waits for queued work, frees everything, and releases the context. */
  @Override
  public void close() {
    if (!open) {
      return;
    }
    bindUnchecked();
    cuStreamSynchronize(uploadStream);
    cuStreamSynchronize(stream);
    List.copyOf(graphs).forEach(CudaGraph::close);
    if (cublas != null) { // null when opening failed half-way
      cublas.close();
    }
    if (staging != null) {
      staging.close();
    }
    if (uploads != null) {
      uploads.close();
    }
    allocations.forEach(address -> cuMemFree(new Address(address)));
    allocations.clear();
    modules.forEach(module -> cuModuleUnload(module));
    cuStreamDestroy(uploadStream);
    cuStreamDestroy(stream);
    open = false;
    cuDevicePrimaryCtxRelease(device);
    arena.close();
  }

  @Override
  public void copyIn(MemorySegment from, long toAddress, long bytes) {
    bindOutsideRecord("a copy from the host");
    staging.up(from, toAddress, bytes);
  }

  @Override
  public void copyOut(long fromAddress, MemorySegment to, long bytes) {
    bindOutsideRecord("a copy to the host");
    staging.down(fromAddress, to, bytes);
  }

  @Override
  public void copyWithin(long fromAddress, long toAddress, long bytes) {
    bind();
    if (bytes > 0) {
      Driver.check(
          cuMemcpyDtoDAsync(new Address(toAddress), new Address(fromAddress), bytes, stream),
          "copying within the card");
    }
  }

  @Override
  public void clear(long address, long bytes) {
    bind();
    if (bytes > 0) {
      Driver.check(
          cuMemsetD8Async(new Address(address), (byte) 0, bytes, stream), "clearing memory");
    }
  }

  /** Waits for queued work first, which may still use the memory. */
  @Override
  public void free(long address) {
    if (!open || !allocations.contains(address)) {
      return; // freed together with the device, or before
    }
    bindOutsideRecord("freeing memory");
    Driver.check(cuStreamSynchronize(stream), QUEUED);
    allocations.remove(address);
    Driver.check(cuMemFree(new Address(address)), "freeing memory");
  }
}
