package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Scope;
import dev.halter.model.Attention.Form;
import dev.halter.weights.ModelConfig;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Random;

/**
 * What a tensor-core form of attention has to pass before a model uses it: on the card at hand, in
 * the model's own shape, it makes what the portable kernel makes, of a prompt and of tokens after
 * it whose keys fill more than one split, the first of which they share.
 */
final class AttentionCheck {
  private static final int PROMPT = Attention.Split.KEYS + 3;

  /** Tokens after it, each a row whose keys are split. */
  private static final int ROWS = 4;

  /** Both round weights and z to bf16: two roundings of values below 1. */
  private static final float TOLERANCE = 0.02f;

  private AttentionCheck() {}

  /**
   * Compares the form that a model of this shape would use with the portable one. Does nothing
   * where they are the same.
   *
   * @throws DeviceException if they differ, saying what to do
   */
  static void run(Device device, ModelConfig config, DType type) {
    Form portable = Form.portable(config, type);
    Form form = Form.of(device, config, type);
    if (form.equals(portable) || config.maxPositions() < PROMPT + ROWS) {
      return;
    }
    float[] expected = z(device, config, type, portable);
    Form narrow = form.with(null);
    compare(device, narrow, expected, z(device, config, type, narrow));
    if (form.wide() != null) {
      compare(device, form, expected, z(device, config, type, form));
    }
  }

  static void compare(Device device, Form form, float[] expected, float[] found) {
    float worst = 0;
    for (int i = 0; i < expected.length; i++) {
      worst = Math.max(worst, Math.abs(found[i] - expected[i])); // NaN stays NaN
    }
    if (!(worst <= TOLERANCE)) {
      throw new DeviceException(
          "kernel %s and the portable one differ by %s on %s: run with -Dhalter.attention=%s, and report this"
              .formatted(
                  form.wide() == null ? form.kernel() : form.wide().kernel(),
                  worst,
                  device.description(),
                  form.wide() == null ? "portable" : "sm80"));
    }
  }

  /** z of a sequence of random queries, keys and values below 1: its prompt, and the rows after. */
  static float[] z(Device device, ModelConfig config, DType type, Form form) {
    int rows = PROMPT + ROWS;
    int heads = config.nHeads() * config.dHead();
    int width = heads + 2 * config.nKvHeads() * config.dHead();
    Llama.Limits limits = new Llama.Limits(rows, 1, ROWS, KvCache.pagesFor(rows), rows);
    try (Scope scope = device.scope()) {
      Attention attention = new Attention(scope, config, type, limits, form.sharingAll());
      KvCache cache = new KvCache(scope, config, type, limits.pages(), 1, rows);
      StepTables step = new StepTables(scope, limits);
      Buffer qkv = scope.allocate(2L * rows * width);
      Buffer z = scope.allocate(2L * rows * heads);
      qkv.copyFrom(MemorySegment.ofArray(random(rows * width)));
      int sequence = cache.open();
      cache.reserve(sequence, rows);
      Batch prompt = new Batch();
      prompt.add(sequence, 0, new int[PROMPT], new int[PROMPT], PROMPT);
      Batch after = new Batch();
      for (int i = PROMPT; i < rows; i++) {
        after.add(sequence, i, new int[1], new int[1], 1);
      }
      int first = 0;
      for (Batch batch : List.of(prompt, after)) {
        Attention.Work.Shape work = step.upload(batch, attention, cache);
        Buffer rowsOfStep = qkv.slice(2L * first * width);
        Buffer zOfStep = z.slice(2L * first * heads);
        attention.rotateAndAppend(rowsOfStep, batch.rows(), step, cache, 0);
        attention.attend(zOfStep, rowsOfStep, work, step, cache, 0, Edits.NONE);
        first += batch.rows();
      }
      return read(z, rows * heads);
    }
  }

  static float[] read(Buffer bf16, int count) {
    short[] bits = new short[count];
    bf16.copyTo(MemorySegment.ofArray(bits));
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = Float.intBitsToFloat(bits[i] << 16);
    }
    return values;
  }

  /** Numbers between -1 and 1, as bf16. */
  private static short[] random(int count) {
    Random random = new Random(1);
    short[] numbers = new short[count];
    for (int i = 0; i < count; i++) {
      numbers[i] = (short) (Float.floatToRawIntBits(2 * random.nextFloat() - 1) >>> 16);
    }
    return numbers;
  }
}
