package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Scope;

/**
 * A dictionary's atoms as 16-bit integers with a scale each, half the bytes of f32: {@code
 * cuda-kernels/sparse_start.cu}.
 */
final class QuantisedAtoms implements AutoCloseable {
  private static final int BLOCK = 128;

  private final Scope scope;
  private final Buffer steps;
  private final Buffer scales;
  private final float moved;

  QuantisedAtoms(Dictionary dictionary) {
    Device device = dictionary.device();
    int n = dictionary.size();
    this.scope = device.scope();
    try {
      this.steps = scope.allocate(2L * n * dictionary.width());
      this.scales = scope.allocate(4L * n);
      try (Buffer each = device.allocate(4L * n)) {
        device.launch(
            device.kernel("sparse_quantise"),
            Grid.of(n),
            BLOCK,
            0,
            steps,
            scales,
            each,
            dictionary.atoms(),
            dictionary.width());
        float furthest = 0;
        for (float one : each.toFloats(n)) {
          furthest = Math.max(furthest, one);
        }
        this.moved = furthest;
      }
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
  }

  /** Bytes for n atoms of length d. */
  static long bytes(int n, int d) {
    return 2L * n * d + 4L * n;
  }

  /** I16 [n, d]. */
  Buffer steps() {
    return steps;
  }

  /** F32 [n]: an atom is its steps times this. */
  Buffer scales() {
    return scales;
  }

  /** Furthest that quantising moves an atom, in L2 norm. */
  float moved() {
    return moved;
  }

  @Override
  public void close() {
    scope.close();
  }
}
