package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Scope;
import dev.halter.device.TestDevices;
import dev.halter.device.cuda.TestCuda;
import dev.halter.model.FewRows.Input;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Kernels {@code multiply_few*}: beside double arithmetic, and beside the kernels they stand for.
 */
class FewRowsTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final float EPS = 1e-5f;

  /** A form and a type that it takes. */
  private record Way(FewRows.Form form, DType type) {
    /** Whether k is one that it takes: the copy engine moves 16 bytes. */
    boolean takes(int k) {
      return form == FewRows.Form.PORTABLE || k % 8 == 0;
    }
  }

  private static List<Way> ways(Device device) {
    Way sm90 = new Way(FewRows.Form.SM90, DType.BF16);
    List<Way> portable =
        List.of(
            new Way(FewRows.Form.PORTABLE, DType.F32), new Way(FewRows.Form.PORTABLE, DType.BF16));
    return Stream.concat(portable.stream(), has(device, sm90) ? Stream.of(sm90) : Stream.empty())
        .toList();
  }

  private static boolean has(Device device, Way sm90) {
    if (device.kind().equals("cuda") && !device.runsSm90()) {
      return false;
    }
    try {
      new FewRows(device, config(1, 1, 2, 8), sm90.type, sm90.form, 1);
      return true;
    } catch (IllegalArgumentException e) { // the CPU's own build lacks the kernels
      return false;
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void agreesWithDoubleArithmetic(Device device) {
    for (Way way : ways(device)) {
      for (int k : new int[] {1, 8, 33, 255, 264, 1023, 2056, 4100, 4616}) {
        for (int n : new int[] {1, 7, 34}) {
          for (int rows : k < 1000 ? new int[] {1, 3, 8} : new int[] {5}) {
            if (way.takes(k)) {
              float[] x = Values.random(way.type, rows * k, k);
              float[] w = Values.random(way.type, n * k, n);
              check(way.type, rows, n, k, x, w, multiply(device, way, rows, n, k, x, w));
            }
          }
        }
      }
    }
  }

  private static void check(
      DType type, int rows, int n, int k, float[] x, float[] w, float[] found) {
    for (int row = 0; row < rows; row++) {
      for (int i = 0; i < n; i++) {
        double sum = 0;
        double size = 0;
        for (int j = 0; j < k; j++) {
          double product = (double) x[row * k + j] * w[i * k + j];
          sum += product;
          size += Math.abs(product);
        }
        double tolerance = size * 1e-6 + (type == DType.F32 ? 0 : Math.abs(sum) / 256);
        assertEquals(sum, found[row * n + i], tolerance, "%d x %d x %d".formatted(rows, n, k));
      }
    }
  }

  /** However many other rows there are, and whatever they hold. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void aRowHasTheSameBitsInEveryBatch(Device device) {
    for (Way way : ways(device)) {
      for (int k : new int[] {257, 520, 1032}) {
        if (!way.takes(k)) {
          continue;
        }
        DType type = way.type;
        int n = 34;
        float[] x = Values.random(type, 8 * k, 1);
        float[] w = Values.random(type, n * k, 2);
        float[] eight = multiply(device, way, 8, n, k, x, w);
        for (int row = 0; row < 8; row++) {
          float[] alone =
              multiply(device, way, 1, n, k, Arrays.copyOfRange(x, row * k, row * k + k), w);
          assertArrayEquals(alone, Arrays.copyOfRange(eight, row * n, row * n + n));
        }
        for (int rows = 2; rows < 8; rows++) {
          float[] few = multiply(device, way, rows, n, k, Arrays.copyOf(x, rows * k), w);
          assertArrayEquals(Arrays.copyOf(eight, rows * n), few);
        }
        x[0] = Float.NaN;
        float[] damaged = multiply(device, way, 8, n, k, x, w);
        assertTrue(Float.isNaN(damaged[0]));
        assertArrayEquals(
            Arrays.copyOfRange(eight, n, 8 * n), Arrays.copyOfRange(damaged, n, 8 * n));
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void neitherBlocksNorThreadsShowInTheResult(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      int n = 39;
      int k = 520;
      float[] x = Values.random(type, 2 * k, 1);
      float[] w = Values.random(type, n * k, 2);
      Way way = new Way(FewRows.Form.PORTABLE, type);
      float[] expected = multiply(device, way, 2, n, k, x, w);
      String name = "multiply_few_" + type.name().toLowerCase(Locale.ROOT);
      for (int[] shape : new int[][] {{1, 32}, {3, 64}, {7, 32}, {64, 96}}) {
        try (Buffer xs = Values.buffer(device, type, x);
            Buffer ws = Values.buffer(device, type, w);
            Buffer out = device.allocate(2L * n * type.bytes())) {
          device.launch(
              device.kernel(name), Grid.of(shape[0]), shape[1], 0, out, xs, null, 0f, ws, 2, n, k);
          assertArrayEquals(expected, Values.read(out, type, 2 * n), Arrays.toString(shape));
        }
      }
    }
  }

  /** Of the form for sm_90: a block's stages go round the ring, with one item after another. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void neitherBlocksNorTilesNorStagesShowInTheResult(Device device) {
    Way way = new Way(FewRows.Form.SM90, DType.BF16);
    assumeTrue(has(device, way));
    int n = 71;
    int k = 1544;
    int block = RowKernels.rowBlock(k, DType.BF16);
    float[] w = Values.random(DType.BF16, n * k, 2);
    for (int rows : new int[] {1, 6}) {
      float[] x = Values.random(DType.BF16, rows * k, 1);
      float[] expected = multiply(device, way, rows, n, k, x, w);
      float[] zeros = new float[rows * n];
      for (int[] shape : new int[][] {{1, 1, 2}, {2, 1, 3}, {1, 2, 5}, {3, 2, 2}, {7, 1, 7}}) {
        int tiles = shape[1];
        int stages = shape[2];
        int shared = 256 + 16 * tiles * block + stages * (16 * tiles + rows) * (2 * 512 + 64);
        try (Buffer xs = Values.buffer(device, DType.BF16, x);
            Buffer ws = Values.buffer(device, DType.BF16, w);
            Buffer out = Values.buffer(device, DType.F32, zeros)) {
          Kernel kernel = device.kernel("multiply_few_add_sm90");
          Grid grid = Grid.of(shape[0]);
          device.launch(kernel, grid, block, shared, out, xs, ws, null, rows, n, k, tiles, stages);
          assertArrayEquals(expected, out.toFloats(rows * n), Arrays.toString(shape));
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void takesTheNormAlongBitForBit(Device device) {
    for (Way way : ways(device)) {
      for (int d : new int[] {33, 264, 1024, 4096, 4104}) {
        if (!way.takes(d)) {
          continue;
        }
        try (Run run = new Run(device, way, d, d > 1024 ? 3 : 8)) {
          Linear w = run.weights(23, 3);
          run.fewRows.multiply(run.out, run.normed(), w, run.rows);
          float[] apart = run.read(run.out, run.rows * 23);
          run.fewRows.multiply(run.out, run.withNorm(), w, run.rows);
          assertArrayEquals(apart, run.read(run.out, run.rows * 23));
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void addsAsTheResidualAddDoes(Device device) {
    for (Way way : ways(device)) {
      for (int d : new int[] {33, 264}) {
        for (boolean biased : new boolean[] {false, true}) {
          if (!way.takes(d)) {
            continue;
          }
          try (Run run = new Run(device, way, d, 5)) {
            Linear w = run.weights(d, 3);
            Buffer bias = biased ? run.floats(d, 4) : null;
            Buffer in = run.normed().x();
            run.fewRows.multiply(run.out, new Input(in, null), w, run.rows);
            Buffer x = run.copyOfX();
            RowKernels.SteeredAt site = new RowKernels.SteeredAt(Site.Kind.MLP_OUT, 0);
            run.kernels.add(x, run.out, bias, run.rows, d, Edits.NONE, site, site);
            run.fewRows.add(run.x, in, w, bias, run.rows);
            // The CPU's own build, which has no use for these kernels, may sum in any order.
            float tolerance = device.description().startsWith("CPU (2 threads") ? 1e-4f : 0;
            assertArrayEquals(x.toFloats(run.rows * d), run.x.toFloats(run.rows * d), tolerance);
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void gatesAsTheGatedMlpDoes(Device device) {
    for (Way way : ways(device)) {
      DType type = way.type;
      for (boolean biased : new boolean[] {false, true}) {
        int f = 37;
        try (Run run = new Run(device, way, 264, 3)) {
          Linear w = run.weights(2 * f, 3);
          Buffer gateBias = biased ? run.floats(f, 4) : null;
          Buffer upBias = biased ? run.floats(f, 5) : null;
          run.fewRows.multiply(run.out, run.withNorm(), w, run.rows);
          Buffer post = run.scope.allocate(4L * run.rows * f);
          Buffer up = run.out.slice((long) f * type.bytes());
          run.kernels.gatedMlp(
              post, run.out, up, gateBias, upBias, run.rows, f, 2L * f, Edits.NONE, 0);
          float[] apart = run.read(post, run.rows * f);
          for (Input in : List.of(run.withNorm(), run.normed())) {
            run.fewRows.gate(post, in, w, gateBias, upBias, run.rows);
            assertArrayEquals(apart, run.read(post, run.rows * f));
            post.clear();
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void rotatesAndAppendsAsTheKernelsDo(Device device) {
    for (Way way : ways(device)) {
      for (int dHead : new int[] {2, 64, 66}) {
        for (boolean biased : new boolean[] {false, true}) {
          assertArrayEquals(
              rope(device, way, dHead, biased, false), rope(device, way, dHead, biased, true));
        }
      }
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    TestDevices.assertSchedulesAgree(
        device -> {
          float[] all = rope(device, new Way(FewRows.Form.PORTABLE, DType.F32), 66, true, true);
          for (FewRows.Form form : FewRows.Form.values()) {
            Way way = new Way(form, DType.BF16);
            try (Run run = new Run(device, way, 264, 3)) {
              Linear w = run.weights(34, 3);
              run.fewRows.gate(run.out, run.withNorm(), w, null, null, run.rows);
              float[] gated = run.read(run.out, run.rows * 17);
              run.fewRows.add(run.x, run.normed().x(), run.weights(264, 4), null, run.rows);
              float[] sum = run.x.toFloats(run.rows * 264);
              float[] rotated = rope(device, way, 66, true, true);
              all = AttentionRun.concatenate(all, gated, sum, rotated);
            }
          }
          return all;
        });
  }

  @Test
  void areForCudaUnlessCublasIsAskedFor() {
    try (Device cuda = TestCuda.open();
        Llama model =
            Llama.load(
                Path.of("src/test/resources/goldens/llama3/model"),
                cuda,
                DType.BF16,
                new Llama.Limits(8, 8, 1, 1, 8))) {
      ModelConfig config = model.config();
      FewRows few = FewRows.of(cuda, config, model.weights(), DType.BF16);
      // From two rows on cuBLAS is faster than the portable form.
      assertTrue(few.takes(1));
      assertEquals(cuda.runsSm90(), few.takes(2));
      assertEquals(cuda.runsSm90(), few.takes(FewRows.MOST));
      assertFalse(few.takes(FewRows.MOST + 1));
      withProperty(
          "portable",
          () ->
              assertTrue(
                  FewRows.of(cuda, config, model.weights(), DType.BF16).takes(FewRows.MOST)));
      withProperty(
          "cublas", () -> assertNull(FewRows.of(cuda, config, model.weights(), DType.BF16)));
      withProperty(
          "always",
          () ->
              assertEquals(
                  "-Dhalter.few_rows=always: choose auto, sm90, portable or cublas",
                  assertThrows(
                          IllegalArgumentException.class,
                          () -> FewRows.of(cuda, config, model.weights(), DType.BF16))
                      .getMessage()));
    }
  }

  /** Loading checks the kernels; steps of two rows then go by them, and agree with cuBLAS. */
  @ParameterizedTest
  @ValueSource(strings = {"auto", "off"})
  void aModelOnACardOfSm90StreamsItsWeights(String overlap) {
    System.setProperty("halter.pdl", overlap);
    try (Device cuda = TestCuda.open(90)) {
      assumeTrue(cuda.runsSm90());
      boolean overlaps = cuda.details().stream().anyMatch(line -> line.contains("steps overlap"));
      assertEquals(overlap.equals("auto"), overlaps, cuda.details().toString());
      float[][] logits = new float[2][];
      withProperty("cublas", () -> logits[0] = steps(cuda, false));
      withProperty("sm90", () -> logits[1] = steps(cuda, true));
      for (int i = 0; i < logits[0].length; i++) {
        assertEquals(logits[0][i], logits[1][i], 0.1, "logit " + i);
      }
    } finally {
      System.clearProperty("halter.pdl");
    }
  }

  /** Logits of the last of four steps of two sequences, of which the last two are graphs. */
  private static float[] steps(Device cuda, boolean streams) {
    Llama.Limits limits = new Llama.Limits(8, 8, 2, 2, 8);
    Path folder = Path.of("src/test/resources/goldens/llama3/model");
    try (Llama model = Llama.load(folder, cuda, DType.BF16, limits)) {
      FewRows few = FewRows.of(cuda, model.config(), model.weights(), DType.BF16);
      assertEquals(streams, few != null && few.takes(2));
      for (int sequence = 0; sequence < 2; sequence++) {
        model.cache().reserve(model.cache().open(), 8);
      }
      for (int position = 0; ; position++) {
        Batch batch = new Batch();
        for (int sequence = 0; sequence < 2; sequence++) {
          batch.add(sequence, position, new int[] {3 + 5 * position + sequence}, new int[1], 0);
        }
        Buffer logits = model.forward(batch, null);
        if (position == 3) {
          return logits.toFloats(2 * model.config().vocabularySize());
        }
      }
    }
  }

  @Test
  void aKernelThatMultipliesWrongIsRefused() {
    try (Device cuda = TestCuda.open()) {
      float[] right = {3, -200, Float.NaN};
      FewRowsCheck.compare(
          cuda, DType.BF16, "multiply_few", right, new float[] {3, -201, Float.NaN});
      for (float[] wrong : new float[][] {{3, -210, Float.NaN}, {Float.NaN, -200, Float.NaN}}) {
        String message =
            assertThrows(
                    DeviceException.class,
                    () -> FewRowsCheck.compare(cuda, DType.BF16, "multiply_few", right, wrong))
                .getMessage();
        assertTrue(message.contains("run with -Dhalter.few_rows=cublas"), message);
      }
    }
  }

  private static void withProperty(String value, Runnable work) {
    System.setProperty("halter.few_rows", value);
    try {
      work.run();
    } finally {
      System.clearProperty("halter.few_rows");
    }
  }

  private static float[] multiply(
      Device device, Way way, int rows, int n, int k, float[] x, float[] w) {
    DType type = way.type;
    try (Buffer xs = Values.buffer(device, type, x);
        Buffer ws = Values.buffer(device, type, w);
        Buffer out = device.allocate((long) rows * n * type.bytes())) {
      new FewRows(device, config(1, 1, 2, k), type, way.form, FewRows.MOST)
          .multiply(out, new Input(xs, null), new Linear(ws, type, n, k), rows);
      return Values.read(out, type, rows * n);
    }
  }

  private static ModelConfig config(int heads, int kvHeads, int dHead, int dModel) {
    ModelConfig config = AttentionRun.config(heads, kvHeads, dHead, 0);
    return new ModelConfig(
        config.family(),
        dModel,
        1,
        heads,
        kvHeads,
        dHead,
        4,
        8,
        EPS,
        config.rope(),
        config.maxPositions(),
        true,
        false,
        false,
        false,
        false,
        List.of(0),
        -1,
        List.of());
  }

  /** Rows of 3 query and 2 KV heads at positions 63 to 65 of one sequence; then both caches. */
  private static float[] rope(Device device, Way way, int dHead, boolean biased, boolean together) {
    DType type = way.type;
    int rows = 3;
    int heads = 3;
    int kvHeads = 2;
    int d = 72;
    int width = (heads + 2 * kvHeads) * dHead;
    ModelConfig config = config(heads, kvHeads, dHead, d);
    try (Run run = new Run(device, way, d, rows)) {
      Llama.Limits limits = new Llama.Limits(rows, 1, 1, 2, 128);
      Attention attention = new Attention(run.scope, config, type, limits);
      KvCache cache = new KvCache(run.scope, config, type, 2, 1, 128);
      StepTables step = new StepTables(run.scope, limits);
      cache.keys(0).clear();
      cache.values(0).clear();
      int sequence = cache.open();
      cache.reserve(sequence, 128);
      Batch batch = new Batch();
      batch.add(sequence, 63, new int[rows], new int[rows], rows);
      step.upload(batch, attention, cache);
      Linear w = run.weights(width, 3);
      Buffer bias = biased ? run.floats(width, 4) : null;
      Buffer qkv = run.scope.allocate(4L * rows * width);
      FewRows few = new FewRows(device, config, type, way.form, FewRows.MOST);
      if (together) {
        Buffer frequencies = attention.inverseFrequencies();
        few.rope(qkv, run.withNorm(), w, bias, frequencies, step, cache, 0, rows);
      } else {
        few.multiply(qkv, run.withNorm(), w, rows);
        attention.biasAndNorm(qkv, rows, new Attention.HeadChanges(bias, null, null));
        attention.rotateAndAppend(qkv, rows, step, cache, 0);
      }
      int cached = 2 * kvHeads * dHead * KvCache.PAGE;
      return AttentionRun.concatenate(
          run.read(qkv, rows * width),
          run.read(cache.keys(0), cached),
          run.read(cache.values(0), cached));
    }
  }

  /** Rows of a residual stream, with room for what is made of them. */
  private static final class Run implements AutoCloseable {
    final Scope scope;
    final DType type;
    final int d;
    final int rows;
    final FewRows fewRows;
    final RowKernels kernels;
    final Buffer x;
    final Buffer out;
    private final RowKernels.Norm norm;
    private final Buffer h;

    Run(Device device, Way way, int d, int rows) {
      this.scope = device.scope();
      this.type = way.type;
      this.d = d;
      this.rows = rows;
      this.fewRows = new FewRows(device, config(1, 1, 2, d), type, way.form, FewRows.MOST);
      this.kernels = new RowKernels(device, type);
      this.x = floats(rows * d, 1);
      this.norm = new RowKernels.Norm(floats(d, 2), EPS, null);
      this.h = scope.allocate((long) rows * d * type.bytes());
      this.out = scope.allocate(4L * rows * Math.max(d, 256));
    }

    Buffer floats(int count, long seed) {
      return scope.of(Values.random(DType.F32, count, seed));
    }

    Buffer copyOfX() {
      return scope.of(x.toFloats(rows * d));
    }

    Linear weights(int n, long seed) {
      float[] values = Values.random(type, n * d, seed);
      return new Linear(scope.add(Values.buffer(scope.device(), type, values)), type, n, d);
    }

    Input withNorm() {
      return new Input(x, norm);
    }

    Input normed() {
      kernels.norm(norm, h, x, rows, d, null, Edits.NONE);
      return new Input(h, null);
    }

    float[] read(Buffer buffer, int count) {
      return Values.read(buffer, type, count);
    }

    @Override
    public void close() {
      scope.close();
    }
  }
}
