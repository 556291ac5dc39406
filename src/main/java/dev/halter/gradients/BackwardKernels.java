package dev.halter.gradients;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import java.util.Locale;

/**
 * Launches the kernels of gradients that take rows by themselves: {@code cross_entropy.cu}, {@code
 * rmsnorm_backward.cu}, {@code gated_mlp_backward.cu}, the rotation of {@code
 * attention_backward.cu} and the sum of gradients of {@code adamw.cu}. Gradients of the residual
 * stream, of q, k and v, and of weights are f32; the rest has T, the activations' type.
 */
public final class BackwardKernels {
  private static final int BLOCK = 256;

  /** Threads of a block that has a part of a row. */
  private static final int PART_BLOCK = 128;

  /** Neurons of a part on the CPU, where parts only balance the threads. */
  private static final int CPU_PART = 4096;

  private final Device device;
  private final DType type;
  private final Kernel narrow; // null where activations are f32
  private final Kernel crossEntropy;
  private final Kernel rmsnorm;
  private final Kernel qkNorm;
  private final Kernel gatedMlp;
  private final Kernel rope;
  private final Kernel addValues;

  /** For activations of a type, f32 or bf16. */
  public BackwardKernels(Device device, DType type) {
    String suffix = "_" + type.name().toLowerCase(Locale.ROOT);
    this.device = device;
    this.type = type;
    this.narrow = type == DType.F32 ? null : device.kernel("convert_f32" + suffix);
    this.crossEntropy = device.kernel("cross_entropy_f32");
    this.rmsnorm = device.kernel("rmsnorm_backward_f32");
    this.qkNorm = device.kernel("qk_norm_backward" + suffix);
    this.gatedMlp = device.kernel("gated_mlp_backward" + suffix);
    this.rope = device.kernel("rope_backward_f32");
    this.addValues = device.kernel("add_values");
  }

  /** The heads of {@code qkv}, in the order q, k, v. */
  public record Heads(int heads, int kvHeads, int dHead) {
    /** Columns of qkv. */
    public int width() {
      return (heads + 2 * kvHeads) * dHead;
    }
  }

  /**
   * Values as products take them: f32 rounded to T, or as they are where T is that.
   *
   * @param room as many values of T, written; not used where T is f32
   * @param width of a row
   */
  public Matrix factor(Buffer room, Buffer values, int rows, int width) {
    if (narrow == null) {
      return new Matrix(values, DType.F32, width);
    }
    long elements = (long) rows * width;
    int blocks = Math.clamp(elements / 1024, 1, 65_535);
    long bytes = elements * (4 + type.bytes());
    device.launch(narrow, bytes, Grid.of(blocks), BLOCK, 0, room, values, elements);
    return new Matrix(room, type, width);
  }

  /**
   * Writes each row's loss in nats, and over the logits the gradient of {@code scale} times their
   * sum.
   *
   * @param losses [rows], written
   * @param hits [rows] int, written: 1 where no logit is above the target's, else 0
   * @param logits [rows, vocabulary]
   * @param targets [rows] int, the token that each row should predict
   */
  public void crossEntropy(
      Buffer losses,
      Buffer hits,
      Buffer logits,
      Buffer targets,
      int rows,
      int vocabulary,
      float scale) {
    device.launch(
        crossEntropy,
        16L * rows * vocabulary,
        Grid.of(rows),
        BLOCK,
        0,
        losses,
        hits,
        logits,
        targets,
        vocabulary,
        scale);
  }

  /**
   * Adds to dx the gradient of x, of which {@code dy} is the gradient of its RMSNorm.
   *
   * @param dy [n, d]: of row {@code rows[i]} of x, or of row i where {@code rows} is null
   * @param gain [d]
   */
  public void rmsnorm(
      Buffer dx, Buffer x, Buffer dy, Buffer rows, Buffer gain, int n, int d, float eps) {
    device.launch(rmsnorm, 20L * n * d, Grid.of(n), BLOCK, 0, dx, x, dy, rows, gain, d, eps);
  }

  /**
   * Takes the gradient of q and k back over their norms, in place.
   *
   * @param dqkv [rows, width] f32
   * @param qkv [rows, width] T, as the projections left it
   * @param bias [width] or null
   */
  public void qkNorm(
      Buffer dqkv,
      Buffer qkv,
      Buffer bias,
      Buffer qGain,
      Buffer kGain,
      float eps,
      int rows,
      Heads of) {
    int heads = of.heads + of.kvHeads;
    device.launch(
        qkNorm,
        (8L + type.bytes()) * rows * heads * of.dHead,
        Grid.of(rows, heads),
        32,
        0,
        dqkv,
        qkv,
        bias,
        qGain,
        kGain,
        eps,
        of.heads,
        of.kvHeads,
        of.dHead);
  }

  /**
   * Gate and up become their gradients, {@code post} itself instead of its gradient.
   *
   * @param gate [rows, dMlp] T with row stride {@code stride}, likewise {@code up}
   * @param post [rows, dMlp] T
   */
  public void gatedMlp(Buffer gate, Buffer up, Buffer post, int rows, int dMlp, long stride) {
    int part = device.kind().equals("cuda") ? PART_BLOCK : CPU_PART;
    device.launch(
        gatedMlp,
        6L * type.bytes() * rows * dMlp,
        Grid.of(rows, Math.ceilDiv(dMlp, part)),
        PART_BLOCK,
        0,
        gate,
        up,
        post,
        dMlp,
        stride);
  }

  /** Takes the gradient of q and k back over their rotation, in place. */
  public void rope(Buffer dqkv, Buffer inverseFrequencies, Buffer positions, int rows, Heads of) {
    device.launch(
        rope,
        8L * rows * (of.heads + of.kvHeads) * of.dHead,
        Grid.of(rows),
        BLOCK,
        4 * of.dHead,
        dqkv,
        inverseFrequencies,
        positions,
        of.heads,
        of.kvHeads,
        of.dHead);
  }

  /** sum += values, both [rows, columns]. */
  public void add(Buffer sum, Buffer values, int rows, int columns) {
    long bytes = 12L * rows * columns;
    device.launch(addValues, bytes, Grid.of(rows), BLOCK, 0, sum, values, columns);
  }
}
