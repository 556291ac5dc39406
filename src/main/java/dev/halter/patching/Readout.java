package dev.halter.patching;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Scope;
import dev.halter.device.Top;
import dev.halter.model.Llama;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.model.Positionwise;
import dev.halter.patching.EffectSums.Run;
import java.util.Arrays;
import java.util.List;

/** What is read of residual rows at the end of the model. */
final class Readout {
  private Readout() {}

  /**
   * The runs of rows of the residual stream after the last block.
   *
   * @param x [rows, d_model] f32; row r belongs to pair {@code r % pairs.size()}
   * @param probability whether log-sum-exps are wanted
   */
  static Run[] of(
      Llama model,
      PatchKernels kernels,
      Positionwise positionwise,
      Buffer x,
      int rows,
      List<Pair> pairs,
      boolean probability) {
    float[] logits = logits(model.device(), kernels, x, rows, pairs);
    float[] logSums = new float[rows];
    if (probability) {
      logSums(model, positionwise, x, logSums);
    } else {
      Arrays.fill(logSums, Float.NaN);
    }
    model.requireWhole(); // rows of senders went through the weights beside its steps
    Run[] runs = new Run[rows];
    for (int row = 0; row < rows; row++) {
      boolean hasFoil = pairs.get(row % pairs.size()).foil().isPresent();
      runs[row] = new Run(logits[2 * row], hasFoil ? logits[2 * row + 1] : Float.NaN, logSums[row]);
    }
    return runs;
  }

  /** [rows, 2]: logits of each row's answer and foil. */
  private static float[] logits(
      Device device, PatchKernels kernels, Buffer x, int rows, List<Pair> pairs) {
    int[] tokens = new int[2 * pairs.size()];
    for (int i = 0; i < pairs.size(); i++) {
      tokens[2 * i] = pairs.get(i).answer();
      tokens[2 * i + 1] = pairs.get(i).foil().orElse(-1);
    }
    try (Buffer answers = device.allocate(4L * tokens.length);
        Buffer logits = device.allocate(8L * rows)) {
      answers.set(tokens);
      kernels.tokenLogits(logits, x, rows, answers, pairs.size(), 2);
      return logits.toFloats(2 * rows);
    }
  }

  private static void logSums(Llama model, Positionwise positionwise, Buffer x, float[] logSums) {
    Linear head = model.weights().head();
    int rowBytes = 4 * model.config().dModel();
    try (Scope scope = model.device().scope()) {
      Top top = Top.allocate(scope, Top.Sign.PLUS, 1, positionwise.rows());
      for (int row = 0; row < logSums.length; row += positionwise.rows()) {
        int count = Math.min(positionwise.rows(), logSums.length - row);
        model
            .device()
            .multiplyTop(
                count,
                head.out(),
                head.in(),
                positionwise.finalNorm(x.slice((long) row * rowBytes), count),
                head.matrix(),
                top);
        System.arraycopy(top.logSumExp(count), 0, logSums, row, count);
      }
    }
  }
}
