package dev.halter.device;

import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * A machine that runs Halter's kernels: one in-order queue of launches, products and copies over
 * its own memory.
 *
 * <p>The same kernel sources, the same launches and the same argument layout serve every device:
 * {@code CudaDevice} hands them to the CUDA driver, {@code CpuDevice} to the g++ build of the same
 * files. Work is queued in call order; {@link Buffer} copies to the host, but for what is {@link
 * Buffer#send sent}, and {@link #synchronize()} wait for it. A device and everything made from it
 * belong to one thread at a time.
 */
public interface Device extends AutoCloseable {

  /** What runs, for people: {@code "CPU (2 threads, avx512)"}, {@code "NVIDIA H200 (sm_90)"}. */
  String description();

  /** Short kind as on the command line: {@code "cpu"} or {@code "cuda"}. */
  String kind();

  /** Further facts for people, a line each: versions of the driver and of libraries. */
  default List<String> details() {
    return List.of();
  }

  /** Bytes of device memory in all and still free. */
  Memory memory();

  /**
   * The type in which weights are held: as in the file on the CPU; on CUDA, where a product needs
   * both factors in one type, as the activations.
   */
  DType weightType(DType file, DType activations);

  /** Whether {@link #upload} shows host memory as it is, without a copy. */
  boolean sharesHostMemory();

  /** Whether the factors of a product may differ in type. */
  boolean mixesTypes();

  /** Whether it takes work in large pieces to keep it busy: thousands of rows at a time. */
  boolean wantsLargePieces();

  /** Processors that blocks of a launch spread over: a GPU's SMs; 1 where nothing depends on it. */
  default int multiprocessors() {
    return 1;
  }

  /** Whether it runs the kernels of files named {@code _sm90}: compute capability 9.0. */
  default boolean runsSm90() {
    return false;
  }

  /**
   * Describes a matrix of bf16 to the tensor copies of such kernels: boxes of 64 columns, swizzled
   * by 128 bytes, with zeros outside the matrix ({@code TensorMap} of wgmma_sm90.cuh).
   *
   * @param map receives the 128 bytes; at a multiple of 64
   */
  default void encodeTensorMap(
      MemorySegment map, Matrix matrix, int rows, int columns, int boxRows) {
    throw new UnsupportedOperationException(description() + " has no tensor copies");
  }

  /**
   * Whether {@link #record} makes graphs; before one, all that its work allocates must be there.
   */
  boolean recordsGraphs();

  /**
   * Allocates {@code bytes} of device memory, contents undefined, at a 256-byte boundary.
   *
   * @throws OutOfDeviceMemoryException with what was asked for and what is free
   */
  Buffer allocate(long bytes);

  /** An empty scope, in which buffers are allocated that are freed together. */
  default Scope scope() {
    return new Scope(this);
  }

  /**
   * Host memory as a device buffer, for weights: the very same memory on the CPU (which must
   * outlive the buffer), a copy on CUDA. Read-only for kernels.
   */
  Buffer upload(MemorySegment host);

  /**
   * The kernel of this name.
   *
   * @throws IllegalArgumentException for an unknown name, listing those that are there
   */
  Kernel kernel(String name);

  /**
   * Queues a kernel launch. Arguments are packed in order as CUDA passes them: {@link Buffer} or
   * {@code Long} as 8 bytes, {@code Integer} and {@code Float} as 4, {@code null} as a null
   * pointer, a {@link Struct} or a {@link MemorySegment} as the structure that it holds; they are
   * checked against the kernel's own parameter sizes.
   *
   * @param block threads in a block; kernels stride by it, so results do not depend on it
   * @param sharedBytes dynamic shared memory in bytes
   * @throws IllegalArgumentException if number or size of arguments do not fit the kernel
   */
  void launch(Kernel kernel, Grid grid, int block, int sharedBytes, Object... arguments);

  /**
   * As {@link #launch(Kernel, Grid, int, int, Object...)}, by a caller that can tell how much the
   * launch moves; a {@link Profile} shows it.
   *
   * @param bytes that the kernel's contract says are moved
   */
  default void launch(
      Kernel kernel, long bytes, Grid grid, int block, int sharedBytes, Object... arguments) {
    launch(kernel, grid, block, sharedBytes, arguments);
  }

  /**
   * Queues {@code out[m,n] = x[m,k] · w[n,k]ᵀ}, accumulated in f32. All matrices are row-major with
   * their own row strides; a factor that is {@link Matrix#transposed} lies in memory as {@code
   * [k,m]} or {@code [k,n]}. {@code out} is not, and overlaps neither. {@code x} is f32 or bf16,
   * {@code w} of a {@link #weightType}, {@code out} f32 or of x's type.
   */
  void multiply(int m, int n, int k, Matrix x, Matrix w, Matrix out);

  /**
   * Queues, for each of the {@code m} rows of {@code x[m,k] · w[n,k]ᵀ}, its best entries and its
   * log-sum-exp; the whole product never exists. Accumulated in f32. {@code x} and {@code w} are as
   * for {@link #multiply}, neither transposed. A row's result does not depend on the other rows,
   * where {@link #multiply}'s does not. The first call may allocate a buffer: not within {@link
   * #record}.
   */
  void multiplyTop(int m, int n, int k, Matrix x, Matrix w, Top top);

  /**
   * Records launches, products and device-to-device copies as a graph that replays with one call.
   * What {@code work} queues may depend on nothing but device buffers: values passed by argument
   * are frozen, and so are addresses. On a device without graphs, and on the CPU where {@code work}
   * reads, writes or allocates memory from the host, replaying runs it again.
   */
  Graph record(Runnable work);

  /**
   * Whether somebody looks at the bytes of launches: for callers to whom it is work to tell them.
   */
  default boolean isProfiled() {
    return false;
  }

  /** What work on this device is timed with; the host's clock where a call returns with it done. */
  default Timer timer() {
    return new HostTimer();
  }

  /** Waits until everything queued is done; reports what failed on the device since. */
  void synchronize();

  /** Frees the device; buffers still open are freed too. */
  @Override
  void close();

  /** Bytes of memory; {@code own} is what this process holds of it besides buffers, 0 on a GPU. */
  record Memory(long total, long free, long own) {
    public Memory(long total, long free) {
      this(total, free, 0);
    }
  }
}
