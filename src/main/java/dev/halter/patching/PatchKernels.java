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

/** Launches the kernels of {@code cuda-kernels/patch.cu}, and two others, for one model. */
final class PatchKernels {
  private static final int BLOCK = 256;

  private final Device device;
  private final Llama model;
  private final Kernel gather;
  private final Kernel putF32;
  private final Kernel putT;
  private final Kernel addRepeated;
  private final Kernel tokenLogits;
  private final Kernel headRows;
  private final Kernel dotParts;
  private final Kernel narrow; // null where activations are f32

  PatchKernels(Llama model) {
    this.model = model;
    this.device = model.device();
    this.gather = device.kernel("gather_rows");
    this.putF32 = device.kernel("put_cells_f32");
    this.putT = device.kernel("put_cells" + suffix(model.type()));
    this.addRepeated = device.kernel("add_repeated");
    this.narrow =
        model.type() == DType.F32 ? null : device.kernel("convert_f32" + suffix(model.type()));
    String headType = suffix(model.weights().head().type());
    this.tokenLogits = device.kernel("token_logits" + headType);
    this.headRows = device.kernel("read_rows" + headType);
    this.dotParts = device.kernel("dot_parts");
  }

  private static String suffix(DType type) {
    return "_" + type.name().toLowerCase(Locale.ROOT);
  }

  /** {@code out[i] = x[index[i]]} for n rows of d_model f32. */
  void gather(Buffer out, Buffer x, Buffer index, int n) {
    launch(gather, 8L * n * model.config().dModel(), n, out, x, index, model.config().dModel());
  }

  /** {@code to[row, column…] = values[source]}, or += it, for n cells {row, column, source}. */
  void put(Matrix to, Buffer values, Buffer cells, int n, int width, boolean add) {
    Kernel kernel = to.type() == DType.F32 ? putF32 : putT;
    launch(
        kernel,
        (long) n * width * (4 + 2 * to.type().bytes()),
        n,
        to.buffer(),
        values,
        cells,
        width,
        to.rowStride(),
        add ? 1 : 0);
  }

  /** f32 rounded to the activations' type. */
  void narrow(Buffer to, Buffer from, long elements) {
    int blocks = Math.clamp(elements / 1024, 1, 65_535);
    launch(narrow, elements * (4 + model.type().bytes()), blocks, to, from, elements);
  }

  /** {@code x[r] += a[r % n]} for rows of d_model f32. */
  void addRepeated(Buffer x, int rows, Buffer a, int n) {
    launch(
        addRepeated, 12L * rows * model.config().dModel(), rows, x, a, n, model.config().dModel());
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
        (long) rows * model.config().dModel() * (4 + k * head.type().bytes()),
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

  /** The rows of n tokens of the LM head, as f32. */
  void headRows(Buffer out, Buffer tokens, int n) {
    Linear head = model.weights().head();
    long bytes = (long) n * head.in() * (4 + head.type().bytes());
    launch(headRows, bytes, n, out, head.weight(), tokens, head.in(), (long) head.in());
  }

  /** Dot products of vectors of {@code width}: out [n, parts], a and b [n, parts, width], f32. */
  void dot(Buffer out, Buffer a, Buffer b, int n, int parts, int width) {
    long bytes = (long) n * parts * (8L * width + 4);
    device.launch(dotParts, bytes, Grid.of(n, parts), BLOCK, 0, out, a, b, width);
  }

  private void launch(Kernel kernel, long bytes, int blocks, Object... arguments) {
    device.launch(kernel, bytes, Grid.of(blocks), BLOCK, 0, arguments);
  }
}
