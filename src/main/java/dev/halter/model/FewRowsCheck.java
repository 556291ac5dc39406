package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.model.LlamaWeights.Layer;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.weights.ModelConfig;
import java.util.Arrays;
import java.util.Random;

/**
 * What the products of few rows have to pass before a model uses them: on the card at hand, with
 * the weights of the model's first layer, they make what the device's own products and the kernels
 * beside them make.
 */
final class FewRowsCheck {
  /** As many rows as take each of the kernels' forms. */
  private static final int[] ROWS = {1, 2, 3, FewRows.MOST};

  private final Device device;
  private final ModelConfig config;
  private final DType type;
  private final Layer layer;
  private final FewRows few;
  private final RowKernels kernels;

  private FewRowsCheck(
      Device device, ModelConfig config, LlamaWeights weights, DType type, FewRows few) {
    this.device = device;
    this.config = config;
    this.type = type;
    this.layer = weights.layer(0);
    this.few = few;
    this.kernels = new RowKernels(device, type);
  }

  /**
   * Compares them. Does nothing where a model does not use them.
   *
   * @throws DeviceException if they differ, saying what to do
   */
  static void run(Device device, ModelConfig config, LlamaWeights weights, DType type) {
    FewRows few = FewRows.of(device, config, weights, type);
    if (few == null) {
      return;
    }
    FewRowsCheck check = new FewRowsCheck(device, config, weights, type, few);
    for (int rows : ROWS) {
      if (few.takes(rows)) {
        check.compare(rows);
      }
    }
  }

  private void compare(int rows) {
    int d = config.dModel();
    int f = config.dMlp();
    try (Scope scope = device.scope()) {
      Buffer x = scope.of(random(rows * d));
      Buffer h = activations(scope, rows * d);
      RowKernels.Norm norm = new RowKernels.Norm(layer.ln2(), (float) config.rmsNormEps(), null);
      kernels.norm(norm, h, x, rows, d, null, Edits.NONE);

      // The MLP, whose products have all three ends: gate and up, the gate, the residual add.
      Linear w = layer.gateUp().getFirst();
      Buffer gateUp = activations(scope, rows * 2 * f);
      Buffer expected = activations(scope, rows * 2 * f);
      few.multiply(gateUp, new FewRows.Input(x, norm), w, rows);
      multiply(expected, h, w, rows);
      compare("multiply_few", expected, gateUp, rows * 2 * f);

      Buffer post = activations(scope, rows * f);
      few.gate(post, new FewRows.Input(x, norm), w, layer.gateBias(), layer.upBias(), rows);
      Buffer gated = activations(scope, rows * f);
      Buffer up = gateUp.slice((long) f * type.bytes());
      kernels.gatedMlp(
          gated, gateUp, up, layer.gateBias(), layer.upBias(), rows, f, 2L * f, Edits.NONE, 0);
      compare("multiply_few_gate", gated, post, rows * f);

      Buffer y = activations(scope, rows * d);
      multiply(y, post, layer.down(), rows);
      Buffer sum = scope.of(x.toFloats(rows * d));
      RowKernels.SteeredAt nowhere = new RowKernels.SteeredAt(Site.Kind.MLP_OUT, 0);
      kernels.add(sum, y, layer.downBias(), rows, d, Edits.NONE, nowhere, nowhere);
      few.add(x, post, layer.down(), layer.downBias(), rows);
      compare("multiply_few_add", sum.toFloats(rows * d), x.toFloats(rows * d));
      compareRope(scope, new FewRows.Input(x, norm), rows);
    }
  }

  private void compareRope(Scope scope, FewRows.Input in, int rows) {
    Linear w = layer.qkv().getFirst();
    Llama.Limits limits = new Llama.Limits(rows, 1, 1, 1, KvCache.PAGE);
    Attention attention = new Attention(scope, config, type, limits);
    KvCache cache = new KvCache(scope, config, type, 1, 1, KvCache.PAGE);
    StepTables step = new StepTables(scope, limits);
    int sequence = cache.open();
    cache.reserve(sequence, rows);
    Batch batch = new Batch();
    batch.add(sequence, 0, new int[rows], new int[rows], rows);
    step.upload(batch, attention, cache);
    Buffer qkv = activations(scope, rows * w.out());
    few.multiply(qkv, in, w, rows);
    Attention.HeadChanges bias = new Attention.HeadChanges(layer.qkvBias(), null, null);
    float[] expected =
        appended(qkv, cache, () -> attention.rotateAndAppend(qkv, rows, bias, step, cache, 0));
    Buffer frequencies = attention.inverseFrequencies();
    float[] found =
        appended(
            qkv,
            cache,
            () -> few.rope(qkv, in, w, layer.qkvBias(), frequencies, step, cache, 0, rows));
    compare("multiply_few_rope", expected, found);
  }

  /** What {@code work} leaves in qkv, and in an empty cache. */
  private float[] appended(Buffer qkv, KvCache cache, Runnable work) {
    cache.keys(0).clear();
    cache.values(0).clear();
    work.run();
    int count = KvCache.PAGE * config.nKvHeads() * config.dHead();
    int all = (int) (qkv.bytes() / type.bytes());
    float[] found = Arrays.copyOf(read(qkv, all), all + 2 * count);
    System.arraycopy(read(cache.keys(0), count), 0, found, all, count);
    System.arraycopy(read(cache.values(0), count), 0, found, all + count, count);
    return found;
  }

  private void multiply(Buffer out, Buffer in, Linear w, int rows) {
    device.multiply(
        rows,
        w.out(),
        w.in(),
        new Matrix(in, type, w.in()),
        w.matrix(),
        new Matrix(out, type, w.out()));
  }

  private Buffer activations(Scope scope, int count) {
    return scope.allocate((long) type.bytes() * count);
  }

  private void compare(String kernel, Buffer expected, Buffer found, int count) {
    compare(kernel, read(expected, count), read(found, count));
  }

  private void compare(String kernel, float[] expected, float[] found) {
    compare(device, type, kernel, expected, found);
  }

  /** Sums in another order, rounded to the type once more or less: by the largest number. */
  static void compare(Device device, DType type, String kernel, float[] expected, float[] found) {
    float largest = 0;
    float worst = 0;
    for (int i = 0; i < expected.length; i++) {
      largest = Float.isNaN(expected[i]) ? largest : Math.max(largest, Math.abs(expected[i]));
      if (Float.compare(expected[i], found[i]) != 0) { // a model's own NaN is no difference
        worst = Math.max(worst, Math.abs(found[i] - expected[i])); // NaN stays NaN
      }
    }
    float tolerance = type == DType.F32 ? 1e-4f : 0.02f;
    if (!(worst <= tolerance * largest)) {
      throw new DeviceException(
          "kernel %s and what it stands for differ by %s on %s: run with -Dhalter.few_rows=cublas, and report this"
              .formatted(kernel, worst, device.description()));
    }
  }

  private float[] read(Buffer buffer, int count) {
    return type == DType.F32 ? buffer.toFloats(count) : AttentionCheck.read(buffer, count);
  }

  private static float[] random(int count) {
    Random random = new Random(1);
    float[] numbers = new float[count];
    for (int i = 0; i < count; i++) {
      numbers[i] = 2 * random.nextFloat() - 1;
    }
    return numbers;
  }
}
