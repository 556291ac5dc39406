package dev.halter.gradients;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.model.Llama;
import dev.halter.model.LlamaWeights;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.model.Positionwise;
import dev.halter.weights.ModelConfig;
import java.util.List;

/**
 * Gradients through what a block does to each row by itself, as {@link Positionwise} runs it: the
 * MLP, and the norms with the projections that read them. The residual stream's gradient {@code dx}
 * is f32; products take it, and leave what lies between two of them, in the activations' type T.
 */
public final class PositionwiseBackward {
  private final Device device;
  private final ModelConfig config;
  private final LlamaWeights weights;
  private final DType type;
  private final BackwardKernels kernels;
  private final Buffer narrowed; // [rows, d_model] T: dx where T is not f32
  private final Buffer dy; // [rows, d_model] f32: the gradient of a norm's result

  /**
   * For up to {@code rows} rows at a time; its buffers live in {@code scope}.
   *
   * @param kernels of the model's type
   */
  public PositionwiseBackward(Scope scope, Llama model, BackwardKernels kernels, int rows) {
    this.device = scope.device();
    this.config = model.config();
    this.weights = model.weights();
    this.type = model.type();
    this.kernels = kernels;
    long elements = (long) rows * config.dModel();
    this.narrowed = type == DType.F32 ? null : scope.allocate(elements * type.bytes());
    this.dy = scope.allocate(4 * elements);
  }

  /** dx [count, d_model] as a factor of products; what it was before may be gone. */
  public Matrix factor(Buffer dx, int count) {
    return kernels.factor(narrowed, dx, count, config.dModel());
  }

  /**
   * From the end of a block's MLP to its gate and up projections, in place.
   *
   * @param dx {@link #factor} of the gradient of what the MLP adds
   * @param gateUp [count, 2 d_mlp] T, gate left and up right, as the forward pass had them with
   *     their biases; they become their gradients
   * @param post [count, d_mlp] T, becomes {@code hook_post}
   */
  public void neurons(int layer, Matrix dx, Buffer gateUp, Buffer post, int count) {
    int f = config.dMlp();
    Matrix down = weights.layer(layer).down().matrix();
    device.multiply(count, f, config.dModel(), dx, down.transpose(), new Matrix(post, type, f));
    Buffer up = gateUp.slice((long) f * type.bytes());
    kernels.gatedMlp(gateUp, up, post, count, f, 2L * f);
  }

  /**
   * dx += the gradient that goes through projections and their norm. The norm's is linear in it, so
   * each projection adds its own.
   *
   * @param out the gradient of the projections' results, side by side
   * @param x the norm's input [count, d_model] f32
   */
  public void projections(
      Buffer dx, Matrix out, List<Linear> parts, Buffer x, Buffer gain, int count) {
    Matrix from = out;
    for (Linear part : parts) {
      project(from, part, count);
      norm(dx, x, dy, null, gain, count);
      from = from.columnsFrom(part.out());
    }
  }

  /**
   * dx += the gradient that goes through the LM head and the final norm.
   *
   * @param out the gradient of the logits of rows {@code rows[i]} of x
   */
  public void head(Buffer dx, Matrix out, Buffer x, Buffer rows, int count) {
    project(out, weights.head(), count);
    norm(dx, x, dy, rows, weights.finalNorm(), count);
  }

  /**
   * dx += the gradient that goes through the final norm.
   *
   * @param out that of its result [count, d_model] f32
   * @param x its input, likewise
   */
  public void finalNorm(Buffer dx, Buffer out, Buffer x, int count) {
    norm(dx, x, out, null, weights.finalNorm(), count);
  }

  private void project(Matrix out, Linear part, int count) {
    Matrix to = new Matrix(dy, DType.F32, config.dModel());
    device.multiply(count, part.in(), part.out(), out, part.matrix().transpose(), to);
  }

  private void norm(Buffer dx, Buffer x, Buffer out, Buffer rows, Buffer gain, int count) {
    float eps = (float) config.rmsNormEps();
    kernels.rmsnorm(dx, x, out, rows, gain, count, config.dModel(), eps);
  }
}
