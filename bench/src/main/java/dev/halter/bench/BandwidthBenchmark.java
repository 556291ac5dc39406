package dev.halter.bench;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.device.Matrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.TimeUnit;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;
import org.openjdk.jmh.annotations.AuxCounters;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * How fast the machine reads and copies what no cache holds: the floor of kernels that are bound by
 * memory. {@code bytes} of a copy are those read and those written. On the CPU by the JDK's own
 * loops on all cores, nothing of Halter's; on CUDA a copy by the driver, and a product of one row
 * by cuBLAS, which reads a matrix.
 *
 * <p>HOW TO RUN: {@code bench/kernels}.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 2, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 500, timeUnit = TimeUnit.MILLISECONDS)
public class BandwidthBenchmark {
  private static final long BYTES = 256L << 20;
  private static final int COLUMNS = 8192;

  @Param({"cpu"})
  public String device;

  private Device opened; // null on the CPU
  private Arena arena;
  private MemorySegment from;
  private MemorySegment to;
  private Buffer first;
  private Buffer second;

  /** What one call did. */
  @AuxCounters(AuxCounters.Type.OPERATIONS)
  @State(Scope.Thread)
  public static class Work {
    public double bytes;
  }

  @Setup
  public void open() {
    arena = Arena.ofShared();
    if (device.equals("cpu")) {
      from = arena.allocate(BYTES, 64);
      to = arena.allocate(BYTES, 64);
      onAllCores(part -> part(from, part).fill((byte) 1));
      onAllCores(part -> part(to, part).fill((byte) 1));
    } else {
      opened = Devices.open(device, 0, true);
      first = opened.allocate(BYTES);
      second = opened.allocate(BYTES);
      first.clear();
      second.clear();
    }
  }

  private static int cores() {
    return Runtime.getRuntime().availableProcessors();
  }

  private static void onAllCores(IntConsumer work) {
    IntStream.range(0, cores()).parallel().forEach(work);
  }

  private static MemorySegment part(MemorySegment all, int part) {
    long bytes = BYTES / cores();
    return all.asSlice(part * bytes, bytes);
  }

  @Benchmark
  public void copy(Work work) {
    if (opened == null) {
      onAllCores(part -> part(to, part).copyFrom(part(from, part)));
    } else {
      second.copyFrom(first);
      opened.synchronize();
    }
    work.bytes += 2 * BYTES;
  }

  @Benchmark
  public void read(Work work) {
    if (opened == null) {
      onAllCores(
          part -> {
            if (part(from, part).mismatch(part(to, part)) >= 0) {
              throw new IllegalStateException("the parts differ");
            }
          });
      work.bytes += 2 * BYTES;
    } else {
      int rows = (int) (BYTES / 4 / COLUMNS);
      Matrix w = new Matrix(first, DType.F32, COLUMNS);
      Matrix x = new Matrix(second, DType.F32, COLUMNS);
      opened.multiply(1, rows, COLUMNS, x, w, new Matrix(second.slice(4L * COLUMNS), DType.F32, rows));
      opened.synchronize();
      work.bytes += BYTES;
    }
  }

  @TearDown
  public void close() {
    if (opened != null) {
      opened.close();
    }
    arena.close();
  }
}
