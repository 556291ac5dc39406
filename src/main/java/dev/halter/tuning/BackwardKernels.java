package dev.halter.tuning;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;

/**
 * Launches the kernels of gradients that take rows by themselves: {@code cross_entropy.cu}, {@code
 * rmsnorm_backward.cu}, {@code gated_mlp_backward.cu}, the rotation of {@code
 * attention_backward.cu} and the sum of gradients of {@code adamw.cu}. All is f32.
 */
final class BackwardKernels {
  private static final int BLOCK = 256;

  /** Threads of a block that has a part of a row. */
  private static final int PART_BLOCK = 128;

  /** Neurons of a part on the CPU, where parts only balance the threads. */
  private static final int CPU_PART = 4096;

  private final Device device;
  private final Kernel crossEntropy;
  private final Kernel rmsnorm;
  private final Kernel qkNorm;
  private final Kernel gatedMlp;
  private final Kernel rope;
  private final Kernel addValues;

  BackwardKernels(Device device) {
    this.device = device;
    this.crossEntropy = device.kernel("cross_entropy_f32");
    this.rmsnorm = device.kernel("rmsnorm_backward_f32");
    this.qkNorm = device.kernel("qk_norm_backward_f32");
    this.gatedMlp = device.kernel("gated_mlp_backward_f32");
    this.rope = device.kernel("rope_backward_f32");
    this.addValues = device.kernel("add_values");
  }

  /** The heads of {@code qkv}, in the order q, k, v. */
  record Heads(int heads, int kvHeads, int dHead) {
    /** Columns of qkv. */
    int width() {
      return (heads + 2 * kvHeads) * dHead;
    }
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
  void crossEntropy(
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
  void rmsnorm(Buffer dx, Buffer x, Buffer dy, Buffer rows, Buffer gain, int n, int d, float eps) {
    device.launch(rmsnorm, 20L * n * d, Grid.of(n), BLOCK, 0, dx, x, dy, rows, gain, d, eps);
  }

  /**
   * Takes the gradient of q and k back over their norms, in place.
   *
   * @param qkv [rows, width] as the projections left it; gets the bias
   * @param bias [width] or null
   */
  void qkNorm(
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
        12L * rows * heads * of.dHead,
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
   * @param gate [rows, dMlp] with row stride {@code stride}, likewise {@code up}
   * @param post [rows, dMlp]
   */
  void gatedMlp(Buffer gate, Buffer up, Buffer post, int rows, int dMlp, long stride) {
    int part = device.kind().equals("cuda") ? PART_BLOCK : CPU_PART;
    device.launch(
        gatedMlp,
        24L * rows * dMlp,
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
  void rope(Buffer dqkv, Buffer inverseFrequencies, Buffer positions, int rows, Heads of) {
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
  void add(Buffer sum, Buffer values, int rows, int columns) {
    long bytes = 12L * rows * columns;
    device.launch(addValues, bytes, Grid.of(rows), BLOCK, 0, sum, values, columns);
  }
}
