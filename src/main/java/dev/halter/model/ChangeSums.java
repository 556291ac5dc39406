package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Scope;
import dev.halter.model.SteeringTable.ReportPlace;
import java.lang.foreign.MemorySegment;
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
   * @param index I32 [most pages of a sequence]: those that are read
   * @param gathered f64 [most pages of a sequence, columns]: their sums
   */
  private record Tables(
      Scope scope,
      int slots,
      int columns,
      Buffer parts,
      Buffer sums,
      Buffer index,
      Buffer gathered) {
    /** What holds more begins with what this held. */
    void copyTo(Tables larger) {
      copyRows(parts, slots, larger.parts, larger.columns);
      copyRows(sums, (int) (sums.bytes() / 8 / columns), larger.sums, larger.columns);
    }

    /** Rows of 8-byte elements; by way of the host, since plans wider than all before are few. */
    private void copyRows(Buffer from, int rows, Buffer to, int width) {
      long[] narrow = new long[rows * columns];
      from.copyTo(MemorySegment.ofArray(narrow));
      long[] wide = new long[rows * width];
      for (int row = 0; row < rows; row++) {
        System.arraycopy(narrow, row * columns, wide, row * width, columns);
      }
      to.copyFrom(MemorySegment.ofArray(wide));
    }
  }

  private Tables tables(int slots, int columns) {
    Scope scope = device.scope();
    try {
      int most = model.cache().pagesPerSequence();
      Buffer parts = scope.allocate(8L * slots * columns);
      Buffer sums = scope.allocate(8L * model.cache().pages() * columns);
      parts.clear();
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
    int[] row = new int[2 * tables.columns];
    for (int i = 0; i < columns.size(); i++) {
      row[2 * i] = columns.get(i).at();
      row[2 * i + 1] = columns.get(i).count();
    }
    tables.parts.slice(4L * row.length * slot).set(row);
  }

  /** Lets the sums of a page begin anew where a step will begin behind its first token. */
  public void clear(int page) {
    tables.sums.slice(8L * tables.columns * page, 8L * tables.columns).clear();
  }

  /** Adds what edits changed in the step that ran last, some of whose tokens have slots. */
  public void add(Batch batch, SteeringTable table) {
    StepTables step = model.step();
    KvCache cache = model.cache();
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
        tables.parts,
        tables.columns,
        batch.rows());
  }

  /**
   * The sums of pages, a row of columns for each.
   *
   * @param pages as many as a sequence may have, or fewer
   */
  public double[][] read(int... pages) {
    int columns = tables.columns;
    double[][] rows = new double[pages.length][columns];
    if (pages.length == 0) {
      return rows;
    }
    tables.index.set(pages);
    // Doubles go as pairs of floats: they are moved, not read.
    device.launch(
        gather,
        Grid.of(pages.length),
        BLOCK,
        0,
        tables.gathered,
        tables.sums,
        tables.index,
        2 * columns);
    double[] all = new double[pages.length * columns];
    tables.gathered.copyTo(MemorySegment.ofArray(all));
    for (int i = 0; i < pages.length; i++) {
      System.arraycopy(all, i * columns, rows[i], 0, columns);
    }
    return rows;
  }

  @Override
  public void close() {
    tables.scope.close();
  }
}
