package dev.halter.device.cpu;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Graph;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.device.Top;
import dev.halter.files.NativeFiles;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/**
 * The CPU as a device: the same kernels, compiled by g++. Work is done when its call returns.
 *
 * <p>There are two builds of the kernels. {@link #open} gives the one that users run: blocks of one
 * thread, vectorised, spread over all cores. {@link #openFaithful} gives one for tests: blocks with
 * all their threads, which meet at real barriers, in an order that the test chooses. Its memory
 * holds NaN until it is written; a write past the end of a buffer and the use of a closed one are
 * errors.
 */
public final class CpuDevice implements Device {
  private final NativeLibrary library;
  private final HostMemory memory;
  private final String description;
  private final Schedule schedule;
  private final Map<String, Kernel> kernels = new HashMap<>();
  private final Arena arena = Arena.ofShared();
  private final MemorySegment single = arena.allocate(Call.LAYOUT);
  private Recording recording; // of the work that is queued now, or null
  private long seed;
  private boolean closed;

  private CpuDevice(NativeLibrary library, String description, Schedule schedule, long seed) {
    this.library = library;
    this.description = description;
    this.memory = new HostMemory(schedule != null);
    this.schedule = schedule;
    this.seed = seed;
  }

  /**
   * Opens the CPU.
   *
   * @param threads how many threads run kernels and products; 0 for one on each core. It holds for
   *     the whole process: the device opened last decides.
   * @throws DeviceException if the native library is missing or the CPU too old for it
   */
  public static Device open(int threads) {
    return open(threads, null);
  }

  /**
   * Opens the CPU with our own products, whose rows do not depend on the batch, or with oneDNN's
   * from {@link NativeFiles#onednn}.
   *
   * @throws DeviceException also if oneDNN is wanted and cannot be loaded
   */
  public static Device open(int threads, boolean batchInvariant) {
    if (batchInvariant) {
      return open(threads, null);
    }
    return open(threads, NativeFiles.onednn());
  }

  /**
   * Opens the CPU with products by oneDNN where it takes their types. A row of a result then
   * depends in its last bits on how many rows there are, and so may its text; in return prompts in
   * bf16 should be faster on a CPU with AMX. This too holds for the whole process.
   *
   * @param onednn the directory of libdnnl.so.3; null: as {@link #open(int)}
   * @throws DeviceException also if oneDNN cannot be loaded
   */
  public static Device open(int threads, Path onednn) {
    if (threads < 0) {
      throw new IllegalArgumentException("there cannot be " + threads + " threads");
    }
    NativeLibrary library = NativeLibrary.load("libhalter.so");
    if (library.onednn(onednn) != 0) {
      throw new DeviceException(library.error());
    }
    int count = library.threads(threads);
    int granted = Runtime.getRuntime().availableProcessors(); // less where a container has a quota
    if (threads == 0 && count > granted) {
      count = library.threads(granted);
    }
    String description = "CPU (%d threads, %s)".formatted(count, library.isa());
    return new CpuDevice(library, description, null, 0);
  }

  /**
   * Opens the test build, whose blocks have all their threads.
   *
   * @param seed what {@link Schedule#RANDOM} starts from
   */
  public static CpuDevice openFaithful(Schedule schedule, long seed) {
    NativeLibrary library = NativeLibrary.load("libhalter-faithful.so");
    String description = "CPU (faithful blocks, %s)".formatted(schedule);
    return new CpuDevice(library, description, schedule, seed);
  }

  @Override
  public String description() {
    return description;
  }

  @Override
  public List<String> details() {
    if (schedule != null) {
      return List.of();
    }
    String isa = library.isa();
    String best = library.cpuIsa();
    String cap = ", capped by HALTER_MAX_ISA: this CPU has " + best;
    return List.of("instruction set " + isa + (isa.equals(best) ? "" : cap));
  }

  @Override
  public String kind() {
    return "cpu";
  }

  @Override
  public Memory memory() {
    return HostMemory.ofMachine();
  }

  @Override
  public DType weightType(DType file, DType activations) {
    return file;
  }

  @Override
  public boolean sharesHostMemory() {
    return true;
  }

  @Override
  public boolean mixesTypes() {
    return true;
  }

  @Override
  public boolean wantsLargePieces() {
    return false;
  }

  /** The test build does their instructions in software. */
  @Override
  public boolean runsSm90() {
    return schedule != null;
  }

  /** As native/include/tensor_map.h has it. */
  @Override
  public void encodeTensorMap(
      MemorySegment map, Matrix matrix, int rows, int columns, int boxRows) {
    long magic = 0x70614d726f736e54L;
    long[] words = {
      magic,
      matrix.buffer().address(),
      columns,
      rows,
      2 * matrix.rowStride(),
      64L | (long) boxRows << 32
    };
    MemorySegment.copy(words, 0, map, ValueLayout.JAVA_LONG, 0, words.length);
  }

  @Override
  public boolean recordsGraphs() {
    return true;
  }

  @Override
  public Buffer allocate(long bytes) {
    requireOpen();
    return new Buffer(memory, memory.allocate(bytes), bytes);
  }

  @Override
  public Buffer upload(MemorySegment host) {
    requireOpen();
    if (!host.isNative()) {
      throw new IllegalArgumentException("only memory outside of the Java heap can be uploaded");
    }
    return new Buffer(memory, memory.lend(host), host.byteSize());
  }

  @Override
  public Kernel kernel(String name) {
    requireOpen();
    return kernels.computeIfAbsent(name, this::find);
  }

  private Kernel find(String name) {
    int id = library.kernel(name);
    if (id < 0) {
      throw new IllegalArgumentException(
          "no kernel '%s'; there are: %s"
              .formatted(
                  name,
                  IntStream.iterate(0, i -> i + 1)
                      .mapToObj(library::kernelName)
                      .takeWhile(known -> known != null)
                      .sorted()
                      .collect(Collectors.joining(", "))));
    }
    return new Kernel(name, id, library.kernelParameters(id), arena);
  }

  @Override
  public void launch(Kernel kernel, Grid grid, int block, int sharedBytes, Object... arguments) {
    requireOpen();
    MemorySegment packed =
        recording == null ? kernel.pack(arguments) : kernel.pack(recording.arena(), arguments);
    Call call = Call.launch((int) kernel.handle(), grid, block, sharedBytes, packed);
    run(call, arguments);
  }

  @Override
  public void multiply(int m, int n, int k, Matrix x, Matrix w, Matrix out) {
    requireOpen();
    Matrix.requireProduct(m, n, k, x, w, out);
    run(Call.product(m, n, k, x, w, out), x.buffer(), w.buffer(), out.buffer());
  }

  @Override
  public void multiplyTop(int m, int n, int k, Matrix x, Matrix w, Top top) {
    requireOpen();
    top.require(m, n, k, x, w);
    run(
        Call.top(m, n, k, x, w, top),
        x.buffer(),
        w.buffer(),
        top.ids(),
        top.values(),
        top.logSum());
  }

  /** Makes a call, or records it; in the test build only if the buffers among these are there. */
  private void run(Call call, Object... arguments) {
    if (schedule != null) {
      List<Buffer> buffers =
          Stream.of(arguments)
              .filter(argument -> argument instanceof Buffer)
              .map(argument -> (Buffer) argument)
              .toList();
      requireMemory(buffers);
      if (recording != null) {
        recording.uses(buffers);
      }
    }
    if (recording != null) {
      recording.add(call);
    } else {
      call.put(single, 0);
      run(single, 1, call.isLaunch() ? 1 : 0);
    }
  }

  /** Makes {@code count} calls, of which some are launches. */
  private void run(MemorySegment calls, int count, int launches) {
    if (schedule != null) {
      library.schedule(schedule.number(), seed);
      seed += launches;
    }
    if (library.run(calls, count) != 0) {
      throw new DeviceException(library.error());
    }
  }

  /**
   * Records work as calls that native code makes one after another. Work in whose midst the host
   * reads, writes or allocates memory cannot be recorded: replaying runs it again.
   */
  @Override
  public Graph record(Runnable work) {
    requireOpen();
    if (recording != null) {
      throw new IllegalStateException("work is being recorded already");
    }
    Recording newRecording = new Recording();
    try {
      recording = newRecording;
      memory.record(newRecording);
      work.run();
      return new Replay(newRecording);
    } catch (Recording.HostAccess e) {
      newRecording.close();
      return Graph.again(work);
    } catch (RuntimeException | Error e) {
      newRecording.close();
      throw e;
    } finally {
      recording = null;
      memory.record(null);
    }
  }

  /** Recorded work. */
  private final class Replay implements Graph {
    private final Recording recorded;
    private final MemorySegment calls;
    private final int launches;
    private boolean open = true;

    Replay(Recording recorded) {
      this.recorded = recorded;
      this.calls = recorded.calls();
      this.launches = recorded.launches();
    }

    @Override
    public void launch() {
      requireOpen();
      if (!open) {
        throw new IllegalStateException("the graph is closed");
      }
      if (recording != null) {
        throw new IllegalStateException("a graph is launched in work that is being recorded");
      }
      requireMemory(recorded.buffers());
      run(calls, recorded.count(), launches);
    }

    @Override
    public void close() {
      if (open) {
        open = false;
        recorded.close();
      }
    }
  }

  @Override
  public void synchronize() {
    requireOpen();
  }

  /** Bytes of buffers that are open: what a test looks at for leaks. */
  public long allocated() {
    return memory.used();
  }

  @Override
  public void close() {
    if (!closed) {
      closed = true;
      arena.close();
      memory.close();
    }
  }

  @Override
  public String toString() {
    return description;
  }

  private void requireMemory(List<Buffer> buffers) {
    buffers.forEach(buffer -> memory.require(buffer.address(), buffer.bytes()));
  }

  private void requireOpen() {
    if (closed) {
      throw new IllegalStateException(description + " is closed");
    }
  }
}
