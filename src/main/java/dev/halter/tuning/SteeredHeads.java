package dev.halter.tuning;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Scope;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;

/**
 * The vectors of heads as they act on z, and their gradients: {@code head_vectors.cu}. Vectors and
 * their gradients are f32, z and its gradient of the activations' type, T.
 */
final class SteeredHeads {
  private static final int BLOCK = 128;

  /** Rows of a part of a sum. */
  private static final int PART = 128;

  private final Device device;
  private final DType type;
  private final int zWidth;
  private final Map<Integer, Layer> layers = new HashMap<>();
  private final Buffer parts; // [parts, heads, d_head]
  private final Kernel apply;
  private final Kernel gradient;
  private final Kernel sum;

  /**
   * @param heads int [heads]
   * @param values [heads, d_head]
   */
  private record Layer(HeadVectors vectors, Buffer heads, Buffer values) {
    int scales() {
      return vectors.kind() == HeadVector.SCALE ? 1 : 0;
    }
  }

  /**
   * Begins with vectors that change nothing.
   *
   * @param scope that its buffers live in
   * @param type T
   * @param zWidth n_heads d_head
   * @param rows most of a batch
   */
  SteeredHeads(Scope scope, Selection selection, DType type, int zWidth, int rows) {
    String suffix = "_" + type.name().toLowerCase(Locale.ROOT);
    this.type = type;
    this.device = scope.device();
    this.zWidth = zWidth;
    this.apply = device.kernel("head_vectors" + suffix);
    this.gradient = device.kernel("head_vectors_gradient" + suffix);
    this.sum = device.kernel("sum_of_parts_f32");
    long most = 0;
    for (HeadVectors vectors : selection.vectors()) {
      int[] heads = vectors.heads().stream().mapToInt(head -> head.head()).toArray();
      Buffer values = scope.allocate(4 * vectors.elements());
      values.clear();
      layers.put(vectors.layer(), new Layer(vectors, scope.of(heads), values));
      most = Math.max(most, vectors.elements());
    }
    this.parts = most == 0 ? null : scope.allocate(4 * most * Math.ceilDiv(rows, PART));
  }

  /** The values of vectors, [heads, d_head], which may be written. */
  Buffer values(HeadVectors vectors) {
    return layers.get(vectors.layer()).values;
  }

  /** Changes z [rows, n_heads d_head] T of a layer, if it has vectors. */
  void apply(int layer, Buffer z, int rows) {
    Layer of = layers.get(layer);
    if (of == null) {
      return;
    }
    int heads = of.vectors.rows();
    int dHead = of.vectors.columns();
    device.launch(
        apply,
        2L * type.bytes() * rows * heads * dHead,
        Grid.of(rows, heads),
        BLOCK,
        0,
        z,
        of.heads,
        of.values,
        of.scales(),
        dHead,
        (long) zWidth);
  }

  /**
   * Writes the gradient of a layer's values, and takes dz back over the change, in place.
   *
   * @param to [heads, d_head], written
   * @param dz [rows, n_heads d_head] T
   * @param z likewise, as it was before the change
   */
  void backward(HeadVectors vectors, Buffer to, Buffer dz, Buffer z, int rows) {
    Layer of = layers.get(vectors.layer());
    int heads = vectors.rows();
    int dHead = vectors.columns();
    int count = Math.ceilDiv(rows, PART);
    device.launch(
        gradient,
        (of.scales() == 1 ? 3L : 1L) * type.bytes() * rows * heads * dHead,
        Grid.of(heads, count),
        BLOCK,
        0,
        parts,
        dz,
        z,
        of.heads,
        of.values,
        of.scales(),
        rows,
        PART,
        dHead,
        (long) zWidth);
    int columns = heads * dHead;
    device.launch(
        sum,
        4L * (count + 1) * columns,
        Grid.of(Math.ceilDiv(columns, BLOCK)),
        BLOCK,
        0,
        to,
        parts,
        count,
        columns);
  }
}
