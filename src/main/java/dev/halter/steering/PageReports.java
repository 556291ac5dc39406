package dev.halter.steering;

import dev.halter.device.Scope;
import dev.halter.model.Batch;
import dev.halter.model.ChangeSums;
import dev.halter.model.Llama;
import dev.halter.model.SteeringTable;
import dev.halter.model.SteeringTable.ReportPlace;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/**
 * What edits did at the tokens of each page of the KV cache: norms, which stay on the device, and
 * the codes of removals. A request's report is the sum over the pages that it holds, whoever has
 * read them.
 */
final class PageReports implements AutoCloseable {
  private static final ReportPlace NOWHERE = new ReportPlace(0, 0);

  /**
   * What a plan's sums are of, column by column: of each intervention the norms of its changes, and
   * behind those of a removal the norms that it found.
   */
  static final class Columns {
    private final boolean[] removes; // by intervention
    private final int[] ofChanges;
    private long[] edits; // null where pages have not been offered to others

    Columns(SteeringPlan plan) {
      int n = plan.interventions().size();
      this.removes = new boolean[n];
      this.ofChanges = new int[n];
      int columns = 0;
      for (int i = 0; i < n; i++) {
        removes[i] = plan.interventions().get(i).edit() instanceof RemoveConcepts;
        ofChanges[i] = columns;
        columns += removes[i] ? 2 : 1;
      }
    }

    /**
     * Lets plans be told that have interventions in common with this one.
     *
     * @param edits a number for each intervention, which has no equal in its plan, and in another
     *     stands for what does the very same
     */
    void tell(long[] edits) {
      this.edits = edits;
    }

    /** The intervention of another plan that does what {@code mine} does; -1 for none. */
    private int counterpart(Columns other, int mine) {
      if (this == other) {
        return mine;
      }
      for (int i = 0; i < other.edits.length; i++) {
        if (other.edits[i] == edits[mine]) {
          return i;
        }
      }
      return -1;
    }

    /**
     * Where a step's report has what is summed.
     *
     * @param changed where that of each intervention lies that changes the slot's tokens
     */
    private List<ReportPlace> places(Map<Integer, ReportPlace> changed) {
      List<ReportPlace> places = new ArrayList<>();
      for (int i = 0; i < removes.length; i++) {
        ReportPlace place = changed.get(i);
        if (place == null) {
          places.addAll(Collections.nCopies(removes[i] ? 2 : 1, NOWHERE));
        } else if (removes[i]) {
          places.add(new ReportPlace(place.at(), 1));
          places.add(new ReportPlace(place.at() + RemoveConcepts.FOUND, 1));
        } else {
          places.add(place);
        }
      }
      return places;
    }
  }

  /** What is summed of the tokens that a page holds, and the codes made of them. */
  private static final class Page {
    final Columns columns;
    final Codes[] codes; // by intervention; null where none was made

    Page(Columns columns) {
      this.columns = columns;
      this.codes = new Codes[columns.removes.length];
    }
  }

  private final Scope scope;
  private final ChangeSums sums;
  private final CodeLog log;
  private final Page[] pages; // of the cache; null where no edit has acted

  PageReports(Llama model) {
    this.scope = model.device().scope();
    this.pages = new Page[model.cache().pages()];
    try {
      this.sums = scope.add(new ChangeSums(model));
      this.log = scope.add(new CodeLog(model));
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
  }

  /**
   * Takes a slot in.
   *
   * @param changed where the report of each intervention lies that changes the slot's tokens
   */
  void place(int slot, Columns columns, Map<Integer, ReportPlace> changed) {
    sums.place(slot, columns.places(changed));
  }

  /**
   * Begins a page in which a step has made a sequence's first edits.
   *
   * @param midway whether the step began behind the page's first token
   */
  void begin(int page, Columns columns, boolean midway) {
    pages[page] = new Page(columns);
    if (midway) {
      sums.clear(page);
    }
  }

  /** Notes a code of a token of a page, which the step's report has at {@code place}. */
  void solved(int page, int intervention, ConceptRemoval removal, int place) {
    Codes[] codes = pages[page].codes;
    if (codes[intervention] == null) {
      codes[intervention] = new Codes();
    }
    log.add(place, removal, codes[intervention]);
  }

  /** Adds what the step just run has changed; all its codes have been noted. */
  void add(Batch batch, SteeringTable table) {
    sums.add(batch, table);
    log.keep();
  }

  /**
   * What a request's report is made of.
   *
   * @param pages of the request in which edits have acted
   */
  record Held(int[] pages, Columns columns, SteeringReport.Builder report) {}

  /** Adds what was done in the pages of requests to their reports, which all are read together. */
  void read(List<Held> requests) {
    log.read();
    double[][] rows =
        sums.read(requests.stream().flatMapToInt(held -> IntStream.of(held.pages)).toArray());
    int next = 0;
    for (Held held : requests) {
      for (int page : held.pages) {
        add(pages[page], rows[next++], held);
      }
    }
  }

  private static void add(Page page, double[] row, Held to) {
    Columns columns = to.columns;
    for (int i = 0; i < columns.removes.length; i++) {
      int theirs = columns.counterpart(page.columns, i);
      if (theirs < 0) {
        continue;
      }
      int column = page.columns.ofChanges[theirs];
      to.report.change(i, row[column]);
      if (columns.removes[i]) {
        to.report.before(i, row[column + 1]);
        if (page.codes[theirs] != null) {
          to.report.codes(i, page.codes[theirs]);
        }
      }
    }
  }

  @Override
  public void close() {
    scope.close();
  }
}
