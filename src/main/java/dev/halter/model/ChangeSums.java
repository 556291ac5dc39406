package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Scope;
import dev.halter.model.SteeringTable.ReportPlace;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;

/**
 * Norms of what edits changed, summed on the device by page of the KV cache ({@code
 * cuda-kernels/sum_changes.cu}): a column for each thing that is summed, in whatever order the
 * slots of a sequence agree on.
 *
 * <p>A page's sums run over its tokens in their order, in f64, and so depend neither on what else a
 * step runs nor on how prompts are cut into steps. They stay as long as the page holds its tokens.
 */
public final class ChangeSums implements AutoCloseable {
  private static final int BLOCK = 128;
  private static final int FIRST_SLOTS = 64;
  private static final int MOST_READ = 1024; // pages at a time

  private final Device device;
  private final Llama model;
  private final Kernel sumChanges;
  private final Kernel gather;
  private Tables tables;

  /** Sums of nothing so far, over the pages of a model's cache. */
  public ChangeSums(Llama model) {
    this.model = model;
    this.device = model.device();
    this.sumChanges = device.kernel("sum_changes");
    this.gather = device.kernel("gather_rows");
    this.tables = tables(FIRST_SLOTS, 1);
  }

  /**
   * What is on the device, of one size.
   *
   * @param parts int2 [slots, columns]
   * @param sums f64 [pages, columns]
   * @param index I32 [pages that are read at a time]: which they are
   * @param gathered f64 [pages that are read at a time, columns]: their sums
   */
  private record Tables(
      Scope scope,
      int slots,
      int columns,
      StagedTable parts,
      Buffer sums,
      Buffer index,
      Buffer gathered) {
    /** Where a slot's parts begin. */
    long at(int slot) {
      return 8L * columns * slot;
    }

    /** What holds more begins with what this held. */
    void copyTo(Tables larger) {
      for (int slot = 0; slot < slots; slot++) {
        MemorySegment row = parts.values().asSlice(at(slot), 8L * columns);
        larger.parts.change(larger.at(slot), row.byteSize()).copyFrom(row);
      }
      copySums(Math.toIntExact(sums.bytes() / 8 / columns), larger);
    }

    /** By way of the host, since plans wider than all before are few. */
    private void copySums(int pages, Tables larger) {
      if (columns == larger.columns) {
        larger.sums.copyFrom(sums);
        return;
      }
      double[] narrow = new double[pages * columns];
      sums.copyTo(MemorySegment.ofArray(narrow));
      double[] wide = new double[pages * larger.columns];
      for (int page = 0; page < pages; page++) {
        System.arraycopy(narrow, page * columns, wide, page * larger.columns, columns);
      }
      larger.sums.copyFrom(MemorySegment.ofArray(wide));
    }
  }

  private Tables tables(int slots, int columns) {
    Scope scope = device.scope();
    try {
      int most = Math.min(model.cache().pages(), MOST_READ);
      StagedTable parts = scope.add(new StagedTable(device, 8L * slots * columns));
      Buffer sums = scope.allocate(8L * model.cache().pages() * columns);
      sums.clear();
      return new Tables(
          scope,
          slots,
          columns,
          parts,
          sums,
          scope.allocate(4L * most),
          scope.allocate(8L * most * columns));
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
  }

  /**
   * Says what is summed of the tokens of a slot.
   *
   * @param slot a steering slot
   * @param columns where the squares of each column lie in a row of the report; of none where the
   *     slot does nothing that the column is about
   * @throws dev.halter.device.OutOfDeviceMemoryException if it does not fit; all is as it was
   */
  public void place(int slot, List<ReportPlace> columns) {
    if (slot >= tables.slots || columns.size() > tables.columns) {
      Tables larger =
          tables(
              Math.max(tables.slots, SteerOps.powerOfTwo(slot + 1)),
              Math.max(tables.columns, SteerOps.powerOfTwo(columns.size())));
      tables.copyTo(larger);
      tables.scope.close();
      tables = larger;
    }
    MemorySegment row = tables.parts.change(tables.at(slot), 8L * tables.columns).fill((byte) 0);
    for (int i = 0; i < columns.size(); i++) {
      row.set(ValueLayout.JAVA_INT, 8L * i, columns.get(i).at());
      row.set(ValueLayout.JAVA_INT, 8L * i + 4, columns.get(i).count());
    }
  }

  /** Lets the sums of a page begin anew where a step will begin behind its first token. */
  public void clear(int page) {
    tables.sums.slice(8L * tables.columns * page, 8L * tables.columns).clear();
  }

  /** Adds what edits changed in the step that ran last, some of whose tokens have slots. */
  public void add(Batch batch, SteeringTable table) {
    StepTables step = model.step();
    KvCache cache = model.cache();
    tables.parts.upload();
    device.launch(
        sumChanges,
        16L * batch.rows(),
        Grid.of(batch.rows()),
        BLOCK,
        0,
        tables.sums,
        model.changes(),
        table.reportStride(),
        step.slots,
        step.sequences,
        step.positions,
        cache.pageTable(),
        cache.pagesPerSequence(),
        tables.parts.buffer(),
        tables.columns,
        batch.rows());
  }

  /** The sums of pages, a row of columns for each: a copy to the host for many of them. */
  public double[][] read(int... pages) {
    double[][] rows = new double[pages.length][];
    int most = Math.toIntExact(tables.index.bytes() / 4);
    for (int from = 0; from < pages.length; from += most) {
      read(pages, from, Math.min(pages.length, from + most), rows);
    }
    return rows;
  }

  private void read(int[] pages, int from, int end, double[][] rows) {
    int columns = tables.columns;
    int count = end - from;
    tables.index.copyFrom(MemorySegment.ofArray(pages).asSlice(4L * from, 4L * count));
    // Doubles go as pairs of floats: they are moved, not read.
    device.launch(
        gather, Grid.of(count), BLOCK, 0, tables.gathered, tables.sums, tables.index, 2 * columns);
    double[] all = new double[count * columns];
    tables.gathered.copyTo(MemorySegment.ofArray(all));
    for (int i = 0; i < count; i++) {
      rows[from + i] = Arrays.copyOfRange(all, i * columns, (i + 1) * columns);
    }
  }

  @Override
  public void close() {
    tables.scope.close();
  }
}
