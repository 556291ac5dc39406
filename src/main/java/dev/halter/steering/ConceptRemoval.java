package dev.halter.steering;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Scope;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.model.SlotEdit;
import dev.halter.model.SteeringTable.Placed;
import dev.halter.sparse.CodingPlan;
import dev.halter.sparse.Dictionary;
import dev.halter.sparse.SparseCoder;
import dev.halter.steering.ConceptRemovals.Together;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Removes concepts at one site from the tokens of slots that agree in the coding ({@code
 * cuda-kernels/remove_concepts.cu}).
 */
final class ConceptRemoval implements AutoCloseable {
  /** Atoms that a token's report names; the kernel's constant. */
  static final int NAMED = 8;

  private static final int BLOCK = 512;

  /** Most rows coded at once: an elastic net's row takes 0.8 MB of working memory. */
  private static final int MOST_ROWS = 64;

  /** Tokens that a dictionary meets in its life, for the choice of a Gram matrix. */
  private static final long LIFE = 100_000;

  // Flags of a slot; the kernel's constants.
  private static final int SOLVE = 1;
  private static final int APPLY = 2;

  private static final int NOT_HERE = -1; // a slot that is left alone: no mask
  private static final int FEWEST_MASKS = 16;

  private final RemoveConcepts.Coding coding;
  private final Dictionary dictionary;
  private final Device device;
  private final Scope scope;
  private final SparseCoder coder;
  private final Buffer removed; // [sequences or rows, d]: what goes
  private final Buffer skip; // [rows]

  /**
   * What is done to the tokens of a slot.
   *
   * @param together what makes it
   */
  record Use(RemoveConcepts edit, Together together, boolean solve, boolean apply)
      implements Edit.Queued {
    @Override
    public Site site() {
      return edit.site();
    }

    @Override
    public String op() {
      return edit.op();
    }

    @Override
    public Edit scaled(double strength) {
      return new Use((RemoveConcepts) edit.scaled(strength), together, solve, apply);
    }

    @Override
    public int reported() {
      return edit.reported();
    }
  }

  /**
   * Makes everything that the work on the device needs, so that a step may be recorded after.
   *
   * @param dictionary is not closed with this
   * @param rows most tokens in a step
   * @param sequences most sequences at once
   */
  ConceptRemoval(RemoveConcepts.Coding coding, Dictionary dictionary, int rows, int sequences) {
    this.coding = coding;
    this.dictionary = dictionary;
    this.device = dictionary.device();
    this.scope = device.scope();
    int together = Math.min(rows, MOST_ROWS);
    try {
      this.coder =
          scope.add(
              new SparseCoder(
                  dictionary,
                  coding.solver(),
                  CodingPlan.of(dictionary, coding.solver(), together, Math.max(together, LIFE))));
      int d = dictionary.width();
      this.removed = scope.allocate(4L * d * (promptEnd() ? sequences : together));
      int[] each = new int[together];
      Arrays.fill(each, 1);
      this.skip = scope.of(each);
      if (device.recordsGraphs()) {
        warmUp(together);
      }
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
  }

  /** Codes nothing, so that all that a step needs is there when one is recorded. */
  private void warmUp(int rows) {
    int d = dictionary.width();
    try (Buffer nothing = device.allocate(4L * rows * d)) {
      nothing.clear();
      coder.enqueue(nothing, d, rows, skip);
      device.synchronize();
    }
  }

  private boolean promptEnd() {
    return coding.when() == RemoveConcepts.Solve.PROMPT_END;
  }

  /**
   * Checks that the dictionary has all that an edit names.
   *
   * @throws IllegalArgumentException naming what it has not
   */
  void requireNames(RemoveConcepts edit) {
    dictionary.findAll(edit.names());
  }

  String name(int atom) {
    return dictionary.name(atom);
  }

  /**
   * Does it to slots, which have yet to join.
   *
   * @param scope that its tables live in
   * @param slots all slots' numbers are below it
   * @param uses a {@link Use} of each slot that is to join
   */
  SlotEdit of(Scope scope, int slots, List<Placed> uses) {
    long masks = uses.stream().map(placed -> Mask.of((Use) placed.edit())).distinct().count();
    return new Round(scope, slots, (int) Math.max(FEWEST_MASKS, 2 * masks));
  }

  /** Which atoms go. */
  private record Mask(List<String> names, boolean keep) {
    static Mask of(Use use) {
      return new Mask(use.edit.names(), use.edit.keep());
    }
  }

  /** The removal from tokens of slots that have joined; the rest are left alone. */
  private final class Round implements SlotEdit {
    private final int words = (dictionary.size() + 31) / 32;
    private final Buffer table; // int4[slots]
    private final Buffer masks; // [room, words]
    private final Mask[] places; // of masks; null where none is
    private final Map<Integer, Mask> bySlot = new HashMap<>();
    private final BitSet solving = new BitSet();

    Round(Scope scope, int slots, int room) {
      int[] how = new int[4 * slots];
      for (int slot = 0; slot < slots; slot++) {
        how[4 * slot] = NOT_HERE;
      }
      this.table = scope.of(how);
      this.masks = scope.allocate(4L * room * words);
      this.places = new Mask[room];
    }

    @Override
    public boolean join(Placed placed) {
      Use use = (Use) placed.edit();
      int slot = placed.slot();
      Mask mask = Mask.of(use);
      int place = place(mask, use);
      if (place < 0) {
        return false;
      }
      bySlot.put(slot, mask);
      solving.set(slot, use.solve);
      table
          .slice(16L * slot, 16)
          .set(
              place,
              (use.solve ? SOLVE : 0) | (use.apply ? APPLY : 0),
              placed.place().at(),
              Float.floatToRawIntBits(use.edit.strength()));
      return true;
    }

    /** Where the mask of a use lies, written if it is new; -1 if there is no room. */
    private int place(Mask mask, Use use) {
      int place = Arrays.asList(places).indexOf(mask);
      if (place < 0) {
        place = Arrays.asList(places).indexOf(null);
        if (place >= 0) {
          masks.slice(4L * place * words).set(use.edit.mask(dictionary));
          places[place] = mask;
        }
      }
      return place;
    }

    @Override
    public void leave(int slot) {
      table.slice(16L * slot, 16).set(NOT_HERE, 0, 0, 0);
      solving.clear(slot);
      Mask mask = bySlot.remove(slot);
      if (!bySlot.containsValue(mask)) {
        places[Arrays.asList(places).indexOf(mask)] = null;
      }
    }

    @Override
    public boolean solves(int slot) {
      return solving.get(slot);
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
              device.kernel("concept_rows"),
              24L * count,
              Grid.of(1),
              BLOCK,
              0,
              skip,
              slots,
              table,
              count);
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
            words,
            coder.codes(),
            dictionary.atoms(),
            rows.changes().slice(4L * from * rows.stride()),
            rows.stride(),
            d);
      }
    }
  }

  @Override
  public void close() {
    scope.close();
  }
}
