package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Grid;
import dev.halter.device.Scope;
import dev.halter.device.TestDevices;
import dev.halter.device.cuda.TestCuda;
import dev.halter.model.FewRows.Input;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Kernels {@code multiply_few*}: beside double arithmetic, and beside the kernels they stand for.
 */
class FewRowsTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final float EPS = 1e-5f;

  /** A type, and whether the kernels of {@code multiply_few_sm90.cu} are to be taken. */
  private record Way(DType type, boolean streams) {}

  private static List<Way> ways(Device device) {
    List<Way> portable = List.of(new Way(DType.F32, false), new Way(DType.BF16, false));
    return streams(device)
        ? Stream.concat(portable.stream(), Stream.of(new Way(DType.BF16, true))).toList()
        : portable;
  }

  /** The CPU's own build lacks those kernels, and so do other cards. */
  private static boolean streams(Device device) {
    return device.kind().equals("cuda")
        ? device.runsSm90()
        : !device.description().startsWith("CPU (2 threads");
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void agreesWithDoubleArithmetic(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int k : new int[] {1, 33, 255, 264, 1023, 2056, 4100}) {
        for (int n : new int[] {1, 7, 34}) {
          for (int rows : k < 1000 ? new int[] {1, 3, 8} : new int[] {5}) {
            float[] x = Values.random(type, rows * k, k);
            float[] w = Values.random(type, n * k, n);
            Way portable = new Way(type, false);
            check(type, rows, n, k, x, w, multiply(device, portable, rows, n, k, x, w));
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

  /** Pairs of rows of W that go round a warp's ring often, whole chunks of them and parts. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void streamsWithTheBitsOfThePortableKernels(Device device) {
    assumeTrue(streams(device));
    for (int k : new int[] {8, 264, 1024, 3080}) {
      for (int n : new int[] {1, 34, 151}) {
        float[] w = Values.random(DType.BF16, n * k, n);
        for (int rows : new int[] {1, 2, 3, 8}) {
          float[] x = Values.random(DType.BF16, rows * k, k);
          assertArrayEquals(
              multiply(device, new Way(DType.BF16, false), rows, n, k, x, w),
              multiply(device, new Way(DType.BF16, true), rows, n, k, x, w),
              "%d x %d x %d".formatted(rows, n, k));
        }
      }
    }
  }

  /** A pair is more chunks than its warp has stages, and a warp has more stages than steps. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void neitherBlocksNorThreadsNorStagesShowInWhatStreams(Device device) {
    assumeTrue(streams(device));
    int n = 39;
    int k = 2 * 1024 + 8;
    int rows = 2;
    float[] x = Values.random(DType.BF16, rows * k, 1);
    float[] w = Values.random(DType.BF16, n * k, 2);
    float[] expected = multiply(device, new Way(DType.BF16, false), rows, n, k, x, w);
    for (int[] shape : new int[][] {{1, 32, 1}, {1, 64, 7}, {3, 64, 2}, {64, 96, 5}}) {
      int shared = Math.ceilDiv(2 * rows * k, 128) * 128 + shape[1] / 32 * shape[2] * 4104;
      try (Buffer xs = Values.buffer(device, DType.BF16, x);
          Buffer ws = Values.buffer(device, DType.BF16, w);
          Buffer out = device.allocate(2L * rows * n)) {
        device.launch(
            device.kernel("multiply_few_sm90"),
            Grid.of(shape[0]),
            shape[1],
            shared,
            out,
            xs,
            null,
            0f,
            ws,
            rows,
            n,
            k,
            shape[2]);
        assertArrayEquals(expected, Values.read(out, DType.BF16, rows * n), Arrays.toString(shape));
      }
    }
  }

  /** However many other rows there are, and whatever they hold. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void aRowHasTheSameBitsInEveryBatch(Device device) {
    for (Way way : ways(device)) {
      for (int k : new int[] {257, 1032}) {
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
      float[] expected = multiply(device, new Way(type, false), 2, n, k, x, w);
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

  @ParameterizedTest
  @MethodSource(DEVICES)
  void takesTheNormAlongBitForBit(Device device) {
    for (Way way : ways(device)) {
      for (int d : new int[] {33, 264, 1024, 4096, 4104}) {
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
      for (boolean biased : new boolean[] {false, true}) {
        int f = 37;
        try (Run run = new Run(device, way, 264, 3)) {
          Linear w = run.weights(2 * f, 3);
          Buffer gateBias = biased ? run.floats(f, 4) : null;
          Buffer upBias = biased ? run.floats(f, 5) : null;
          run.fewRows.multiply(run.out, run.withNorm(), w, run.rows);
          Buffer post = run.scope.allocate(4L * run.rows * f);
          Buffer up = run.out.slice((long) f * way.type.bytes());
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
          float[] all = rope(device, new Way(DType.F32, false), 66, true, true);
          for (boolean streams : new boolean[] {false, true}) {
            Way way = new Way(DType.BF16, streams);
            try (Run run = new Run(device, way, 264, 3)) {
              Linear w = run.weights(34, 3);
              run.fewRows.gate(run.out, run.withNorm(), w, null, null, run.rows);
              float[] gated = run.read(run.out, run.rows * 17);
              run.fewRows.add(run.x, run.normed().x(), run.weights(264, 4), null, run.rows);
              float[] sum = run.x.toFloats(run.rows * 264);
              all = AttentionRun.concatenate(all, gated, sum, rope(device, way, 66, true, true));
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
      assertTrue(few.takes(1));
      assertEquals(cuda.runsSm90(), few.takes(2));
      assertFalse(few.takes(3)); // cuBLAS is faster
      withProperty(
          "own",
          () -> {
            FewRows own = FewRows.of(cuda, config, model.weights(), DType.BF16);
            assertTrue(own.takes(FewRows.MOST));
            assertFalse(own.takes(FewRows.MOST + 1));
          });
      withProperty(
          "cublas", () -> assertNull(FewRows.of(cuda, config, model.weights(), DType.BF16)));
      withProperty(
          "always",
          () ->
              assertEquals(
                  "-Dhalter.few_rows=always: choose auto, own, portable or cublas",
                  assertThrows(
                          IllegalArgumentException.class,
                          () -> FewRows.of(cuda, config, model.weights(), DType.BF16))
                      .getMessage()));
    }
  }

  /**
   * Loading checks the kernels; steps of one row then go by them, in a recorded graph too. What
   * streams overlaps.
   */
  @Test
  void neitherStreamsNorLaunchesThatOverlapChangeABit() {
    List<float[]> logits = new ArrayList<>();
    for (String early : List.of("off", "multiply_few", "all", "auto")) {
      System.setProperty("halter.pdl", early);
      try (Device cuda = TestCuda.open(90)) {
        assumeTrue(cuda.runsSm90());
        boolean overlaps = cuda.details().stream().anyMatch(line -> line.contains("steps overlap"));
        assertEquals(!early.equals("off"), overlaps, cuda.details().toString());
        logits.add(lastOfFourSteps(cuda));
        withProperty("portable", () -> logits.add(lastOfFourSteps(cuda)));
      } finally {
        System.clearProperty("halter.pdl");
      }
    }
    logits.forEach(each -> assertArrayEquals(logits.getFirst(), each));
  }

  @Test
  void onOtherCardsLaunchesFollowOneAnother() {
    try (Device cuda = TestCuda.open(80)) {
      assumeFalse(cuda.runsSm90());
      assertTrue(
          cuda.details().contains("launches follow one another: -Dhalter.pdl=auto"),
          cuda.details().toString());
    }
  }

  private static float[] lastOfFourSteps(Device cuda) {
    Path folder = Path.of("src/test/resources/goldens/llama3/model");
    try (Llama model = Llama.load(folder, cuda, DType.BF16, new Llama.Limits(1, 1, 1, 2, 8))) {
      int sequence = model.cache().open();
      model.cache().reserve(sequence, 8);
      for (int position = 0; ; position++) {
        Batch batch = new Batch();
        batch.add(sequence, position, new int[] {3 + 5 * position}, new int[1], 0);
        Buffer logits = model.forward(batch, null);
        if (position == 3) {
          return logits.toFloats(model.config().vocabularySize());
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
      new FewRows(device, config(1, 1, 2, k), type, FewRows.MOST, way.streams)
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
      FewRows few = new FewRows(device, config, type, FewRows.MOST, way.streams);
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
      this.fewRows = new FewRows(device, config(1, 1, 2, d), type, FewRows.MOST, way.streams);
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
