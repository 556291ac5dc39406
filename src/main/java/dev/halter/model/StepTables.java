package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Scope;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;

/**
 * What kernels must know of a step, token by token, in device buffers with fixed places, so that a
 * recorded step finds the next one's values in them.
 */
final class StepTables {
  /** Bytes that what follows a step has room for beside its tables, for each row of logits. */
  private static final int TAIL_BYTES = 128;

  private final Scope scope;
  private final Llama.Limits limits;
  private final Buffer all;
  private final int[] host;
  private Attention.Work work;
  private Buffer
      tail; // of what follows the step: behind the tables, or where it is too large its own

  final Buffer tokens; // [rows]
  final Buffer positions; // [rows]
  final Buffer sequences; // [rows]: row of the page table
  final Buffer slots; // [rows]: steering slot
  final Buffer outputRows; // [outputs]: row of the batch
  final Buffer tiles; // [tiles, 4]: attention's work
  final Buffer own; // [tiles]: the first split that is a tile's own
  final Buffer shared; // [parts, 4]: what tiles share

  StepTables(Scope scope, Llama.Limits limits) {
    this.scope = scope;
    this.limits = limits;
    int rows = limits.rows();
    // At most one tile a row; as many parts as a grid may have for one a sequence.
    int parts = 2 * limits.sequences();
    int tables = 9 * rows + 4 * parts + limits.outputs();
    int aligned = (tables + 3) / 4 * 4; // to 16 bytes
    this.host = new int[aligned + TAIL_BYTES / 4 * limits.outputs()];
    this.all = scope.allocate(4L * host.length);
    this.tokens = all.slice(0, 4L * rows);
    this.positions = all.slice(4L * rows, 4L * rows);
    this.sequences = all.slice(8L * rows, 4L * rows);
    this.slots = all.slice(12L * rows, 4L * rows);
    this.tiles = all.slice(16L * rows, 16L * rows);
    this.shared = all.slice(32L * rows, 16L * parts);
    this.own = all.slice(32L * rows + 16L * parts, 4L * rows);
    this.outputRows = all.slice(36L * rows + 16L * parts, 4L * limits.outputs());
    this.tail = all.slice(4L * aligned);
  }

  /** Copies a batch to the device; returns the shape of attention's work. */
  Attention.Work.Shape upload(Batch batch, Attention attention, KvCache cache) {
    return upload(batch, attention, cache, true, MemorySegment.NULL);
  }

  /**
   * As above, with what follows the step ({@link #tail}) in the same copy; {@code cache} and {@code
   * maySplit} as for {@link Attention#work}.
   */
  Attention.Work.Shape upload(
      Batch batch, Attention attention, KvCache cache, boolean maySplit, MemorySegment following) {
    int rows = limits.rows();
    int output = at(outputRows);
    for (Batch.Span span : batch.spans()) {
      for (int i = 0; i < span.length(); i++) {
        int row = span.firstRow() + i;
        host[row] = span.tokens()[i];
        host[rows + row] = span.position() + i;
        host[2 * rows + row] = span.sequence();
        host[3 * rows + row] = span.slots()[i];
        if (i >= span.firstOutput()) {
          host[output++] = row;
        }
      }
    }
    work = attention.work(batch, cache, maySplit);
    List<int[]> tiles = work.tiles();
    for (int i = 0; i < tiles.size(); i++) {
      System.arraycopy(tiles.get(i), 0, host, at(this.tiles) + 4 * i, 4);
    }
    int part = at(shared);
    for (Cascade.Part each : work.shared()) {
      host[part++] = each.first();
      host[part++] = each.tiles();
      host[part++] = each.from();
      host[part++] = each.to();
    }
    Arrays.fill(host, part, at(own), 0); // blocks without a part
    System.arraycopy(work.own(), 0, host, at(own), work.own().length);
    MemorySegment tables = MemorySegment.ofArray(host);
    long end = 4L * (at(outputRows) + batch.outputs());
    if (following.byteSize() > tail.bytes()) {
      tail = scope.allocate(2 * following.byteSize()); // the old one, if any, may be in a graph
    }
    long behind = tail.address() - all.address();
    if (following.byteSize() > 0 && 0 <= behind && behind < all.bytes()) {
      MemorySegment.copy(following, 0, tables, behind, following.byteSize());
      end = behind + following.byteSize();
    } else if (following.byteSize() > 0) {
      tail.copyFrom(following);
    }
    all.copyFrom(tables.asSlice(0, end));
    return work.shape();
  }

  /** Where a table begins among the numbers of all. */
  private int at(Buffer table) {
    return Math.toIntExact((table.address() - all.address()) / 4);
  }

  /** What follows the step that was uploaded last. */
  Buffer tail() {
    return tail;
  }

  /** Attention's work of the step that was uploaded last. */
  Attention.Work work() {
    return work;
  }
}
