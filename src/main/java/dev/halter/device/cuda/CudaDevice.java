package dev.halter.device.cuda;

import static jcuda.driver.JCudaDriver.cuLaunchKernel;
import static jcuda.driver.JCudaDriver.cuStreamSynchronize;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Graph;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.device.TiledTop;
import dev.halter.device.Timer;
import dev.halter.device.Top;
import dev.halter.files.NativeFiles;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import java.util.function.Supplier;
import jcuda.driver.CUdevice_attribute;

/**
 * A CUDA device, by its number among those that the driver shows ({@code CUDA_VISIBLE_DEVICES}
 * chooses which), with the kernels of the fatbins of {@link NativeFiles#kernels}.
 *
 * <p>One stream carries all work, in call order, but for {@link #upload} and for what is {@link
 * Buffer#send sent} to the host. What fails on the card shows at the next call that waits for it;
 * with {@code -Dhalter.sync=true} every launch is waited for, so that the error names the kernel.
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

  private final Driver driver;
  private final Scope scope = scope(); // all that follows
  private final Context context;
  private final Streams streams;
  private final Modules modules;
  private final CudaMemory memory;
  private final Cublas cublas;
  private final TiledTop tiledTop = new TiledTop(this);
  private final TensorTop tensorTop; // null: all by tiledTop
  private final Overlap overlap;
  private final boolean synchronous = Boolean.getBoolean("halter.sync");

  /**
   * Opens a device.
   *
   * @param card its number, from 0
   * @throws DeviceException saying in one line which of driver, card, kernels or cuBLAS is missing
   */
  public static Device open(int card) {
    return new CudaDevice(card, NativeFiles::kernels);
  }

  /**
   * Opens a device with the fatbins of another folder.
   *
   * @throws DeviceException as {@link #open(int)}
   */
  public static Device open(int card, Path kernels) {
    return new CudaDevice(card, () -> kernels);
  }

  /**
   * @param kernels their folder; not asked for, which may unpack it, where there is no driver
   */
  private CudaDevice(int card, Supplier<Path> kernels) {
    driver = new Driver();
    driver.start();
    List<Path> fatbins = Modules.fatbins(kernels.get());
    try {
      Arena arena = scope.add(Arena.ofShared());
      context = scope.add(new Context(card));
      streams = scope.add(new Streams(context));
      modules = scope.add(new Modules(driver, context, fatbins, arena));
      memory = scope.add(new CudaMemory(context, streams, scope));
      Buffer workspace = memory.allocate(Cublas.WORKSPACE);
      cublas = scope.add(new Cublas(streams.work, workspace.address(), arena));
      tensorTop = tensorTop(System.getProperty(MULTIPLY_TOP, "auto"), arena);
      overlap = new Overlap(driver, streams, context.capability(), modules, workspace, arena);
      scope.<AutoCloseable>add(streams::finish);
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
  }

  /** What {@link #MULTIPLY_TOP} asks for, or null for cuBLAS. */
  private TensorTop tensorTop(String name, Arena arena) {
    int capability = context.capability();
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
                  MULTIPLY_TOP,
                  name,
                  description(),
                  capability < 80 ? "cublas" : "cublas or sm80"));
    }
    return new TensorTop(
        this,
        this::encodeTensorMap,
        form,
        multiprocessors(),
        modules.sharedLimit(),
        context.attribute(
            CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
        arena);
  }

  @Override
  public String description() {
    return context.description();
  }

  @Override
  public String kind() {
    return "cuda";
  }

  @Override
  public String toString() {
    return description();
  }

  @Override
  public List<String> details() {
    String top = tensorTop == null ? "cuBLAS and top_tokens" : tensorTop.description();
    return List.of(
        "CUDA driver " + Context.driverVersion(),
        cublas.description(),
        "largest entries of products by %s (-D%s)".formatted(top, MULTIPLY_TOP),
        overlap.description());
  }

  @Override
  public Memory memory() {
    return context.memory();
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
  public boolean mixesTypes() {
    return false;
  }

  @Override
  public boolean wantsLargePieces() {
    return true;
  }

  @Override
  public int multiprocessors() {
    return context.attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  }

  @Override
  public boolean runsSm90() {
    return context.capability() == 90;
  }

  @Override
  public void encodeTensorMap(
      MemorySegment map, Matrix matrix, int rows, int columns, int boxRows) {
    context.bind();
    driver.encodeTensorMap(map, matrix, rows, columns, boxRows);
  }

  @Override
  public boolean recordsGraphs() {
    return true;
  }

  @Override
  public Buffer allocate(long bytes) {
    return memory.allocate(bytes);
  }

  /**
   * {@inheritDoc}
   *
   * <p>Nothing queued so far can touch fresh memory, so the copy runs beside it, on a stream of its
   * own; what is queued from here on waits for the copy.
   */
  @Override
  public Buffer upload(MemorySegment host) {
    return memory.upload(host);
  }

  @Override
  public Kernel kernel(String name) {
    context.bind();
    return modules.kernel(name);
  }

  @Override
  public void launch(Kernel kernel, Grid grid, int block, int sharedBytes, Object... arguments) {
    context.bind();
    Driver.Function function = modules.function(kernel, block, sharedBytes);
    MemorySegment packed = kernel.pack(arguments);
    int status =
        overlap.takes(kernel)
            ? overlap.launch(function, grid, block, sharedBytes, packed)
            : cuLaunchKernel(
                function,
                grid.x(),
                grid.y(),
                grid.z(),
                block,
                1,
                1,
                sharedBytes,
                streams.work,
                new Address(packed),
                null);
    Driver.check(status, "launching kernel " + kernel.name());
    if (synchronous && !streams.isRecording()) {
      Driver.check(cuStreamSynchronize(streams.work), "kernel " + kernel.name() + " failed");
    }
  }

  /**
   * {@inheritDoc}
   *
   * <p>{@code x} and {@code w} have one type. In f32, products and sums are f32 (no TF32); cuBLAS
   * may choose another order of summation for another {@code m}.
   */
  @Override
  public void multiply(int m, int n, int k, Matrix x, Matrix w, Matrix out) {
    context.bind();
    boolean types =
        (x.type() == DType.F32 || x.type() == DType.BF16)
            && w.type() == x.type()
            && (out.type() == DType.F32 || out.type() == x.type());
    if (!types) {
      throw new IllegalArgumentException(
          "no product of %s by %s into %s on CUDA".formatted(x.type(), w.type(), out.type()));
    }
    Matrix.requireProduct(m, n, k, x, w, out);
    cublas.multiply(m, n, k, x, w, out);
  }

  @Override
  public void multiplyTop(int m, int n, int k, Matrix x, Matrix w, Top top) {
    context.bind();
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
    return streams.record(work);
  }

  @Override
  public Timer timer() {
    return new CudaTimer(context, streams.work);
  }

  @Override
  public void synchronize() {
    streams.bindOutsideRecord("waiting");
    streams.synchronize();
  }

  /** Waits for queued work, frees everything, and releases the context. */
  @Override
  public void close() {
    scope.close();
  }
}
