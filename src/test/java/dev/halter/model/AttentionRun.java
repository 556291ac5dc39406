package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Scope;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.Rope;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;

/**
 * One layer's attention over made-up q, k and v, with the same attention in double arithmetic
 * beside it. The cache starts as NaN, so whatever is read and not meant to be shows.
 */
final class AttentionRun implements AutoCloseable {
  /** Tokens of a sequence that pass in one step: q, k and v of each, before rotation. */
  record Part(int sequence, int position, float[][] qkv, int[] slots) {
    Part(int sequence, int position, float[][] qkv) {
      this(sequence, position, qkv, new int[qkv.length]);
    }
  }

  /** What a step made of its rows. */
  record Step(float[][] rotated, float[][] z, float[] changes) {
    /** All of z, then all changes. */
    float[] all() {
      return concatenate(concatenate(z), changes);
    }
  }

  static float[] concatenate(float[]... parts) {
    float[] all = new float[Arrays.stream(parts).mapToInt(part -> part.length).sum()];
    int at = 0;
    for (float[] part : parts) {
      System.arraycopy(part, 0, all, at, part.length);
      at += part.length;
    }
    return all;
  }

  final ModelConfig config;
  final Attention attention;
  private final Device device;
  private final Scope scope;
  private final DType type;
  private final KvCache cache;
  private final StepTables tables;
  private final StepGraphs graphs;
  private final Buffer qkv;
  private final Buffer z;
  private final int rows;
  private final Map<Integer, int[]> texts = new HashMap<>(); // of sequences that begin alike

  /** Room for steps of {@code rows} rows and {@code sequences} sequences of as many tokens. */
  AttentionRun(Device device, DType type, ModelConfig config, int rows, int sequences) {
    this(device, type, config, Attention.Form.of(device, config, type), rows, sequences);
  }

  AttentionRun(
      Device device, DType type, ModelConfig config, Attention.Form form, int rows, int sequences) {
    this.device = device;
    this.scope = device.scope();
    this.type = type;
    this.config = config;
    this.rows = rows;
    int pages = sequences * KvCache.pagesFor(rows);
    Llama.Limits limits = new Llama.Limits(rows, 1, sequences, pages, rows);
    this.attention = new Attention(scope, config, type, limits, form);
    this.cache = new KvCache(scope, config, type, pages, sequences, rows);
    fillWithNan(cache.keys(0));
    fillWithNan(cache.values(0));
    this.tables = new StepTables(scope, limits);
    this.graphs = scope.add(new StepGraphs(device));
    this.qkv = scope.allocate((long) rows * width() * type.bytes());
    this.z = scope.allocate((long) rows * config.nHeads() * config.dHead() * type.bytes());
  }

  /** A model of one layer; only what attention looks at matters. */
  static ModelConfig config(int heads, int kvHeads, int dHead, int window) {
    return new ModelConfig(
        ModelConfig.Family.LLAMA,
        heads * dHead,
        1,
        heads,
        kvHeads,
        dHead,
        4,
        8,
        1e-6,
        new Rope.Default(10_000),
        1 << 20,
        true,
        false,
        false,
        false,
        false,
        List.of(window),
        -1,
        List.of());
  }

  /** q, k and v of {@code n} tokens, all of them numbers of the type. */
  static float[][] random(ModelConfig config, DType type, int n, long seed) {
    Random random = new Random(seed);
    float[][] values = new float[n][(config.nHeads() + 2 * config.nKvHeads()) * config.dHead()];
    for (float[] row : values) {
      for (int i = 0; i < row.length; i++) {
        row[i] = round(type, (float) random.nextGaussian());
      }
    }
    return values;
  }

  /** Opens a sequence with room for {@code tokens}. */
  int open(int tokens) {
    int sequence = cache.open();
    if (!cache.reserve(sequence, tokens)) {
      throw new AssertionError("the test's cache is too small");
    }
    return sequence;
  }

  /**
   * Opens a sequence with room for {@code tokens} that has the first pages of another, {@code
   * common} tokens of it.
   */
  int fork(int other, int common, int tokens) {
    int[] text = texts.computeIfAbsent(other, this::newText).clone();
    int sequence = open(tokens);
    Beginning beginning = new Beginning(Arrays.copyOf(text, common));
    cache.keep(other, beginning);
    assertEquals(common, cache.share(sequence, beginning));
    System.arraycopy(newText(sequence), common, text, common, rows - common);
    texts.put(sequence, text);
    return sequence;
  }

  private int[] newText(int sequence) {
    return IntStream.range(0, rows).map(i -> sequence * rows + i).toArray();
  }

  /** Attention's work in the last step. */
  Attention.Work work() {
    return tables.work();
  }

  /** Runs all parts as one ragged batch. */
  Step step(SteeringTable steering, Part... parts) {
    Batch batch = batch(parts);
    int n = batch.rows();
    Attention.Work.Shape work = upload(batch, parts);
    int stride = steering == null ? 1 : steering.reportStride();
    try (Buffer changes = device.allocate(4L * n * stride)) {
      changes.clear();
      run(work, n, steering, changes);
      return new Step(
          read(qkv, n, width()),
          read(z, n, config.nHeads() * config.dHead()),
          changes.toFloats(n * stride));
    }
  }

  /**
   * As {@link #step} of one part without steering; then its log-sum-exps, [rows, heads], stand in
   * the place of changes.
   */
  Step keepingLogSums(Part part) {
    Batch batch = batch(part);
    int n = batch.rows();
    write(part.qkv);
    Attention.Work.Shape work = tables.upload(batch, attention, cache, false, MemorySegment.NULL);
    int count = n * config.nHeads();
    try (Buffer logSums = device.allocate(4L * count)) {
      attention.rotateAndAppend(qkv, n, tables, cache, 0);
      attention.attend(z, logSums, qkv, work, tables, cache, 0, Edits.NONE);
      return new Step(
          read(qkv, n, width()),
          read(z, n, config.nHeads() * config.dHead()),
          logSums.toFloats(count));
    }
  }

  /** As {@link #step} of one part without steering, which biases and norms change in passing. */
  Step changing(Part part, float[] bias, float[] qNorm, float[] kNorm) {
    int n = part.qkv.length;
    Attention.Work.Shape work = upload(batch(part), part);
    try (Scope gains = device.scope()) {
      Attention.HeadChanges changes =
          new Attention.HeadChanges(
              bias == null ? null : gains.of(bias),
              qNorm == null ? null : gains.of(qNorm),
              kNorm == null ? null : gains.of(kNorm));
      attention.rotateAndAppend(qkv, n, changes, tables, cache, 0);
      attention.attend(z, qkv, work, tables, cache, 0, Edits.NONE);
      return new Step(
          read(qkv, n, width()), read(z, n, config.nHeads() * config.dHead()), new float[0]);
    }
  }

  private void run(Attention.Work.Shape work, int n, SteeringTable steering, Buffer changes) {
    attention.rotateAndAppend(qkv, n, tables, cache, 0);
    attention.attend(z, qkv, work, tables, cache, 0, new Edits(steering, tables.slots, changes));
  }

  /** z of {@link #step} without steering, as a decode step runs: recorded the second time. */
  float[][] decode(Part... parts) {
    Batch batch = batch(parts);
    int n = batch.rows();
    Attention.Work.Shape work = upload(batch, parts);
    cache.pageTable();
    graphs.run(n, work, null, false, null, null, () -> run(work, n, null, null));
    return read(z, n, config.nHeads() * config.dHead());
  }

  /** Appends a part's keys and values without attending; returns its rows, rotated. */
  float[][] append(Part part) {
    Batch batch = batch(part);
    upload(batch, part);
    attention.rotateAndAppend(qkv, batch.rows(), tables, cache, 0);
    return read(qkv, batch.rows(), width());
  }

  /** The patterns of one part, which is a step by itself: [heads, rows, keys]. */
  float[] pattern(Part part, int... heads) {
    Batch batch = batch(part);
    upload(batch, part);
    attention.rotateAndAppend(qkv, batch.rows(), tables, cache, 0);
    Batch.Span span = batch.spans().getFirst();
    int count = heads.length * span.length() * (span.position() + span.length());
    try (Buffer out = device.allocate(4L * count)) {
      attention.pattern(out, qkv, span, 0, cache, 0, heads);
      return out.toFloats(count);
    }
  }

  /** q, k and v after biases and norms; each of the three may be null. */
  float[][] biasAndNorm(float[][] values, float[] bias, float[] qNorm, float[] kNorm) {
    write(values);
    try (Buffer b = floats(bias);
        Buffer q = floats(qNorm);
        Buffer k = floats(kNorm)) {
      attention.biasAndNorm(qkv, values.length, new Attention.HeadChanges(b, q, k));
      return read(qkv, values.length, width());
    }
  }

  /** z of one query row in double arithmetic, from rotated rows of its sequence up to its own. */
  static double[] expected(ModelConfig config, List<float[]> rotated, int position) {
    double[] z = new double[config.nHeads() * config.dHead()];
    for (int head = 0; head < config.nHeads(); head++) {
      double[] pattern = expectedPattern(config, rotated, position, head);
      int v = (config.nHeads() + config.nKvHeads() + kvHead(config, head)) * config.dHead();
      for (int key = 0; key <= position; key++) {
        if (pattern[key] != 0) {
          for (int d = 0; d < config.dHead(); d++) {
            z[head * config.dHead() + d] += pattern[key] * rotated.get(key)[v + d];
          }
        }
      }
    }
    return z;
  }

  /** The pattern of one query row and head: softmax over the keys that it sees, 0 elsewhere. */
  static double[] expectedPattern(
      ModelConfig config, List<float[]> rotated, int position, int head) {
    double[] weights = expectedWeights(config, rotated, position, head);
    double sum = Arrays.stream(weights).sum();
    return Arrays.stream(weights).map(weight -> weight / sum).toArray();
  }

  /** What the softmax makes shares of: exp(score) of each key that is seen, else 0. */
  static double[] expectedWeights(
      ModelConfig config, List<float[]> rotated, int position, int head) {
    int d = config.dHead();
    int window = config.slidingWindow(0);
    int k = (config.nHeads() + kvHead(config, head)) * d;
    double[] weights = new double[position + 1];
    for (int key = 0; key <= position; key++) {
      if (window == 0 || position - key < window) {
        double dot = 0;
        for (int i = 0; i < d; i++) {
          dot += (double) rotated.get(position)[head * d + i] * rotated.get(key)[k + i];
        }
        weights[key] = Math.exp(dot / Math.sqrt(d));
      }
    }
    return weights;
  }

  /** The nearest number of the type, ties to even. */
  static float round(DType type, float x) {
    if (type == DType.F32) {
      return x;
    }
    int bits = Float.floatToRawIntBits(x);
    return Float.intBitsToFloat((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000);
  }

  private static int kvHead(ModelConfig config, int head) {
    return head / (config.nHeads() / config.nKvHeads());
  }

  private int width() {
    return (config.nHeads() + 2 * config.nKvHeads()) * config.dHead();
  }

  private static Batch batch(Part... parts) {
    Batch batch = new Batch();
    for (Part part : parts) {
      int n = part.qkv.length;
      batch.add(part.sequence, part.position, new int[n], part.slots, n);
    }
    return batch;
  }

  private Attention.Work.Shape upload(Batch batch, Part... parts) {
    List<float[]> all = new ArrayList<>();
    for (Part part : parts) {
      all.addAll(Arrays.asList(part.qkv));
    }
    if (all.size() > rows) {
      throw new AssertionError("the test's batch is too small");
    }
    write(all.toArray(float[][]::new));
    return tables.upload(batch, attention, cache);
  }

  private Buffer floats(float[] values) {
    if (values == null) {
      return null;
    }
    Buffer buffer = device.allocate(4L * values.length);
    buffer.set(values);
    return buffer;
  }

  private static void fillWithNan(Buffer buffer) {
    byte[] bytes = new byte[(int) buffer.bytes()];
    Arrays.fill(bytes, (byte) 0xff);
    buffer.copyFrom(MemorySegment.ofArray(bytes));
  }

  private void write(float[][] values) {
    int width = width();
    float[] flat = new float[values.length * width];
    short[] bits = new short[flat.length];
    for (int i = 0; i < flat.length; i++) {
      flat[i] = values[i / width][i % width];
      bits[i] = (short) (Float.floatToRawIntBits(flat[i]) >>> 16);
    }
    qkv.copyFrom(type == DType.F32 ? MemorySegment.ofArray(flat) : MemorySegment.ofArray(bits));
  }

  private float[][] read(Buffer buffer, int n, int columns) {
    float[] flat = new float[n * columns];
    if (type == DType.F32) {
      buffer.copyTo(MemorySegment.ofArray(flat));
    } else {
      short[] bits = new short[flat.length];
      buffer.copyTo(MemorySegment.ofArray(bits));
      for (int i = 0; i < flat.length; i++) {
        flat[i] = Float.intBitsToFloat(bits[i] << 16);
      }
    }
    float[][] values = new float[n][];
    for (int row = 0; row < n; row++) {
      values[row] = Arrays.copyOfRange(flat, row * columns, (row + 1) * columns);
    }
    return values;
  }

  @Override
  public void close() {
    scope.close();
  }

  /** Random maps of these heads at layer 0. */
  static Edit.HeadAffine maps(ModelConfig config, long seed, int... heads) {
    int d = config.dHead();
    Random random = new Random(seed);
    float[] a = new float[heads.length * d * d];
    float[] b = new float[heads.length * d];
    for (int i = 0; i < a.length; i++) {
      a[i] = (float) (random.nextGaussian() / Math.sqrt(d));
    }
    for (int i = 0; i < b.length; i++) {
      b[i] = (float) random.nextGaussian();
    }
    return new Edit.HeadAffine(new Site(Site.Kind.Z, 0), heads, a, b, "test");
  }

  /** Asserts that z of a row went from before to after by these maps, and what was reported. */
  static void assertMapped(
      Edit.HeadAffine maps,
      float[] before,
      float[] after,
      float[] changes,
      int report,
      double tolerance) {
    int d = maps.b().length / maps.heads().length;
    for (int head = 0; head < before.length / d; head++) {
      int place = IntStream.of(maps.heads()).boxed().toList().indexOf(head);
      double change = 0;
      for (int i = 0; i < d; i++) {
        double expected = before[head * d + i];
        if (place >= 0) {
          expected = maps.b()[place * d + i];
          for (int j = 0; j < d; j++) {
            expected += (double) maps.a()[(place * d + i) * d + j] * before[head * d + j];
          }
        }
        change += Math.pow(expected - before[head * d + i], 2);
        assertEquals(expected, after[head * d + i], tolerance, "head " + head + ", " + i);
      }
      assertEquals(change, changes[report + head], 10 * tolerance * (1 + change));
    }
  }
}
