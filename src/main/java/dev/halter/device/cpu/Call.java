package dev.halter.device.cpu;

import dev.halter.device.DType;
import dev.halter.device.Grid;
import dev.halter.device.Matrix;
import dev.halter.device.Top;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * One call of a native function as {@code halter_run} takes it: which one, a {@code HalterCall} of
 * native/include/halter.h, and its arguments in their order.
 */
record Call(long... words) {
  private static final int WORDS = 16;

  /** One call in memory. */
  static final MemoryLayout LAYOUT = MemoryLayout.sequenceLayout(WORDS, ValueLayout.JAVA_LONG);

  /** A launch; what {@code arguments} points to is read when it is made. */
  static Call launch(int kernel, Grid grid, int block, int shared, MemorySegment arguments) {
    return new Call(0, kernel, grid.x(), grid.y(), grid.z(), block, shared, arguments.address());
  }

  static Call product(int m, int n, int k, Matrix x, Matrix w, Matrix out) {
    return new Call(
        1,
        m,
        n,
        k,
        x.buffer().address(),
        number(x.type()),
        x.rowStride(),
        x.transposed() ? 1 : 0,
        w.buffer().address(),
        number(w.type()),
        w.rowStride(),
        w.transposed() ? 1 : 0,
        out.buffer().address(),
        number(out.type()),
        out.rowStride());
  }

  static Call top(int m, int n, int k, Matrix x, Matrix w, Top top) {
    return new Call(
        2,
        m,
        n,
        k,
        x.buffer().address(),
        number(x.type()),
        x.rowStride(),
        w.buffer().address(),
        number(w.type()),
        w.rowStride(),
        top.sign().number(),
        top.kept(),
        top.ids().address(),
        top.values().address(),
        top.logSum() == null ? 0 : top.logSum().address());
  }

  static Call copy(long from, long to, long bytes) {
    return new Call(3, to, from, bytes);
  }

  static Call clear(long address, long bytes) {
    return new Call(4, address, 0, bytes);
  }

  boolean isLaunch() {
    return words[0] == 0;
  }

  /** Writes it as number {@code index} of {@code calls}. */
  void put(MemorySegment calls, long index) {
    MemorySegment.copy(
        words, 0, calls, ValueLayout.JAVA_LONG, index * LAYOUT.byteSize(), words.length);
  }

  /** What libhalter calls a type of matrices by; 0, which it refuses, for all others. */
  private static int number(DType type) {
    return switch (type) {
      case F32 -> 1;
      case F16 -> 2;
      case BF16 -> 3;
      default -> 0;
    };
  }
}
