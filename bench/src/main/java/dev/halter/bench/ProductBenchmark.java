package dev.halter.bench;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.device.Matrix;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import java.util.concurrent.TimeUnit;
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
 * The device's matrix product out[m,n] = x[m,k] · w[n,k]ᵀ at the shapes of a forward pass: one row
 * and 32 rows (decode, bound by reading w) and 512 rows (prefill, bound by arithmetic). {@code
 * flop} and {@code bytes} are what it did; divided by the time they are FLOP/s and bytes/s of
 * weights.
 *
 * <p>One w is used over and over, so a small one stays in cache and looks faster than in a model,
 * where every step reads all weights. Judge m = 1 by the largest w.
 *
 * <p>HOW TO RUN: {@code bench/build && java -Dhalter.native=target/native -jar
 * bench/target/benchmarks.jar ProductBenchmark}, on a GPU with {@code -p device=cuda}.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
public class ProductBenchmark {
  @Param({"cpu"})
  public String device;

  /** true: our own products; false: oneDNN's, with -Dhalter.onednn=DIRECTORY. */
  @Param({"true"})
  public boolean batchInvariant;

  @Param({"F32", "BF16"})
  public DType type;

  @Param({"1", "32", "512"})
  public int m;

  @Param({"768x2048", "4096x4096", "32000x768"})
  public String shape;

  private Device opened;
  private Matrix x;
  private Matrix w;
  private Matrix out;
  private int n;
  private int k;

  /** What one call did. */
  @AuxCounters(AuxCounters.Type.OPERATIONS)
  @State(Scope.Thread)
  public static class Work {
    public double flop;
    public double bytes;
  }

  @Setup
  public void open() {
    opened = Devices.open(device, 0, batchInvariant);
    n = Integer.parseInt(shape.split("x")[0]);
    k = Integer.parseInt(shape.split("x")[1]);
    x = new Matrix(random((long) m * k), type, k);
    w = new Matrix(random((long) n * k), type, k);
    out = new Matrix(opened.allocate(4L * m * n), DType.F32, n);
  }

  /** Numbers of order 1: on zeros some processors run faster. */
  private Buffer random(long count) {
    Buffer buffer = opened.allocate(count * type.bytes());
    Random random = new Random(1);
    if (type == DType.F32) {
      float[] values = new float[(int) count];
      for (int i = 0; i < values.length; i++) {
        values[i] = random.nextFloat() - 0.5f;
      }
      buffer.set(values);
    } else {
      short[] bits = new short[(int) count];
      for (int i = 0; i < bits.length; i++) {
        bits[i] = (short) (Float.floatToIntBits(random.nextFloat() - 0.5f) >> 16);
      }
      buffer.copyFrom(MemorySegment.ofArray(bits));
    }
    return buffer;
  }

  @Benchmark
  public void product(Work work) {
    opened.multiply(m, n, k, x, w, out);
    opened.synchronize();
    work.flop += 2.0 * m * n * k;
    work.bytes += (double) n * k * type.bytes();
  }

  @TearDown
  public void close() {
    opened.close();
  }
}
