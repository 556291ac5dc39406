package dev.halter.patching;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.model.Llama;
import dev.halter.model.LlamaWeights.Linear;
import java.util.Locale;

/** Launches the kernels of {@code cuda-kernels/patch.cu} for one model. */
final class PatchKernels {
  private static final int BLOCK = 256;

  private final Device device;
  private final Llama model;
  private final Kernel takeF32;
  private final Kernel takeT;
  private final Kernel putF32;
  private final Kernel putT;
  private final Kernel addRepeated;
  private final Kernel tokenLogits;
  private final Kernel narrow; // null where activations are f32

  PatchKernels(Llama model) {
    this.model = model;
    this.device = model.device();
    this.takeF32 = device.kernel("take_rows_f32");
    this.takeT = device.kernel("take_rows" + suffix(model.type()));
    this.putF32 = device.kernel("put_cells_f32");
    this.putT = device.kernel("put_cells" + suffix(model.type()));
    this.addRepeated = device.kernel("add_repeated");
    this.narrow =
        model.type() == DType.F32 ? null : device.kernel("convert_f32" + suffix(model.type()));
    this.tokenLogits = device.kernel("token_logits" + suffix(model.weights().head().type()));
  }

  private static String suffix(DType type) {
    return "_" + type.name().toLowerCase(Locale.ROOT);
  }

  /** {@code out[i] += factor · from[index[i]]} for n rows; out [n, width] f32. */
  void take(Buffer out, Matrix from, Buffer index, int n, int width, float factor) {
    Kernel kernel = from.type() == DType.F32 ? takeF32 : takeT;
    launch(kernel, n, out, from.buffer(), index, width, from.rowStride(), factor);
  }

  /** {@code to[row, column…] = values[source]}, or += it, for n cells {row, column, source}. */
  void put(Matrix to, Buffer values, Buffer cells, int n, int width, boolean add) {
    Kernel kernel = to.type() == DType.F32 ? putF32 : putT;
    launch(kernel, n, to.buffer(), values, cells, width, to.rowStride(), add ? 1 : 0);
  }

  /** f32 rounded to the activations' type. */
  void narrow(Buffer to, Buffer from, long elements) {
    int blocks = Math.clamp(elements / 1024, 1, 65_535);
    launch(narrow, blocks, to, from, elements);
  }

  /** {@code x[r] += a[r % n]} for rows of d_model f32. */
  void addRepeated(Buffer x, int rows, Buffer a, int n) {
    launch(addRepeated, rows, x, a, n, model.config().dModel());
  }

  /**
   * The final norm and the logits of k tokens a row, in f32.
   *
   * @param out [rows, k] f32
   * @param tokens [n, k], those of row r in line r % n; -1 for none
   */
  void tokenLogits(Buffer out, Buffer x, int rows, Buffer tokens, int n, int k) {
    Linear head = model.weights().head();
    launch(
        tokenLogits,
        rows,
        out,
        x,
        model.weights().finalNorm(),
        model.config().dModel(),
        (float) model.config().rmsNormEps(),
        head.weight(),
        tokens,
        k,
        n);
  }

  private void launch(Kernel kernel, int blocks, Object... arguments) {
    device.launch(kernel, Grid.of(blocks), BLOCK, 0, arguments);
  }
}
