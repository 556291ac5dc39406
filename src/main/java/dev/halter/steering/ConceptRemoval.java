package dev.halter.steering;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.model.QueuedEdit;
import dev.halter.model.Site;
import dev.halter.sparse.Dictionary;
import dev.halter.sparse.Plan;
import dev.halter.sparse.SparseCoder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Removes concepts at one site from the tokens of all slots that agree in the coding ({@code
 * cuda-kernels/remove_concepts.cu}).
 */
final class ConceptRemoval implements QueuedEdit, AutoCloseable {
  /** Atoms that a token's report names: NAMED of the kernel. */
  static final int NAMED = 8;

  private static final int BLOCK = 128;

  /** Most rows coded at once: an elastic net's row takes 0.8 MB of working memory. */
  private static final int MOST_ROWS = 64;

  /** Tokens that a dictionary meets in its life, for the choice of a Gram matrix. */
  private static final long LIFE = 100_000;

  private static final int SOLVE = 1;
  private static final int APPLY = 2;

  private final Site site;
  private final RemoveConcepts.Coding coding;
  private final Dictionary dictionary;
  private final Device device;
  private final SparseCoder coder;
  private final Buffer removed; // [sequences or rows, d]: what goes
  private final Buffer skip; // [rows]
  private final List<Buffer> tables = new ArrayList<>();
  private Buffer table; // int4[slots]
  private Buffer masks; // [edits, words]
  private boolean[] solving = {};

  /** What is done to the tokens of a slot. */
  record Use(RemoveConcepts edit, boolean solve, boolean apply, int report) {}

  /**
   * Makes everything that the work on the device needs, so that a step may be recorded after.
   *
   * @param dictionary is not closed with this
   * @param rows most tokens in a step
   * @param sequences most sequences at once
   */
  ConceptRemoval(
      Site site, RemoveConcepts.Coding coding, Dictionary dictionary, int rows, int sequences) {
    this.site = site;
    this.coding = coding;
    this.dictionary = dictionary;
    this.device = dictionary.device();
    int together = Math.min(rows, MOST_ROWS);
    this.coder =
        new SparseCoder(
            dictionary,
            coding.solver(),
            Plan.of(dictionary, coding.solver(), together, Math.max(together, LIFE)));
    int d = dictionary.width();
    this.removed = device.allocate(4L * d * (promptEnd() ? sequences : together));
    this.skip = device.allocate(4L * together);
    if (!device.sharesHostMemory()) {
      int[] all = new int[together];
      Arrays.fill(all, 1);
      skip.set(all);
      try (Buffer nothing = device.allocate(4L * together * d)) {
        nothing.clear();
        coder.enqueue(nothing, d, together, skip);
        device.synchronize();
      }
    }
  }

  private boolean promptEnd() {
    return coding.when() == RemoveConcepts.Solve.PROMPT_END;
  }

  String name(int atom) {
    return dictionary.name(atom);
  }

  /** Sets what is done to which slots; slot 0 is left alone. */
  void slots(int count, Map<Integer, Use> uses) {
    closeTables();
    int words = (dictionary.size() + 31) / 32;
    Map<RemoveConcepts, Integer> places = new LinkedHashMap<>();
    uses.values().forEach(use -> places.putIfAbsent(use.edit, places.size()));
    int[] bits = new int[places.size() * words];
    places.forEach(
        (edit, place) -> System.arraycopy(edit.mask(dictionary), 0, bits, place * words, words));
    int[] how = new int[4 * (count + 1)];
    solving = new boolean[count + 1];
    for (int slot = 0; slot <= count; slot++) {
      Use use = uses.get(slot);
      how[4 * slot] = use == null ? -1 : places.get(use.edit);
      if (use != null) {
        how[4 * slot + 1] = (use.solve ? SOLVE : 0) | (use.apply ? APPLY : 0);
        how[4 * slot + 2] = use.report;
        how[4 * slot + 3] = Float.floatToRawIntBits(use.edit.strength());
        solving[slot] = use.solve;
      }
    }
    table = filled(how);
    masks = filled(bits);
  }

  private Buffer filled(int[] values) {
    Buffer buffer = device.allocate(4L * Math.max(1, values.length));
    buffer.set(values);
    tables.add(buffer);
    return buffer;
  }

  @Override
  public Site site() {
    return site;
  }

  @Override
  public boolean solves(int slot) {
    return solving[slot];
  }

  @Override
  public void enqueue(Rows rows) {
    int d = dictionary.width();
    int together = coder.plan().rows();
    for (int from = 0; from < rows.count(); from += together) {
      int count = Math.min(together, rows.count() - from);
      Buffer x = rows.x().slice(4L * from * d);
      Buffer slots = rows.slots().slice(4L * from);
      if (rows.solves()) {
        device.launch(
            device.kernel("concept_rows"), Grid.of(1), BLOCK, 0, skip, slots, table, count);
        coder.enqueue(x, d, count, skip);
      }
      device.launch(
          device.kernel("remove_concepts"),
          Grid.of(count),
          BLOCK,
          0,
          x,
          removed,
          slots,
          promptEnd() ? rows.sequences().slice(4L * from) : null,
          table,
          masks,
          (dictionary.size() + 31) / 32,
          coder.support(),
          coder.coefficients(),
          coder.sizes(),
          coder.capacity(),
          coder.iterations(),
          coder.measures(),
          dictionary.atoms(),
          rows.changes().slice(4L * from * rows.stride()),
          rows.stride(),
          d);
    }
  }

  private void closeTables() {
    tables.forEach(Buffer::close);
    tables.clear();
  }

  @Override
  public void close() {
    closeTables();
    coder.close();
    removed.close();
    skip.close();
  }
}
