package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Scope;
import dev.halter.device.Struct;
import dev.halter.sparse.PursuitCoder.Team;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Sparse codes of many vectors at once over one dictionary, on its device. Rows never depend on one
 * another: a row's code is the same in any batch (to the last bit where the device's products keep
 * that promise).
 *
 * <p>A round of any solver is two steps for all rows together. {@link Screening} finds for each row
 * the few atoms that could matter, from correlations by one matrix product or from the Gram matrix
 * ({@link CodingPlan}). One kernel of the solver's {@link RowCoder} then decides by exact dots, and
 * brings code and residual up to date. Screening may be rough: its largest error is known, and an
 * atom that it could hide is looked for exactly. Only {@link PursuitCoder} is another: a row goes
 * through all its rounds in one kernel.
 */
public final class SparseCoder implements AutoCloseable {
  /** Threads of a block of the kernels of a round of many rows. */
  static final int BLOCK = 128;

  /** Threads of a block of the kernels that go over a row once. */
  private static final int ROW_BLOCK = 512;

  /**
   * Rows of a plain pursuit that go through their rounds together on the CPU with a Gram matrix.
   * Each round reads the matrix' rows of all atoms in use again, 40 KB each at 10,000 atoms: those
   * of few rows stay in the cache (a third more vectors a second there than with 256). Elastic net
   * has few rounds.
   */
  private static final int CACHED_ROWS = 32;

  private final Dictionary dictionary;
  private final Device device;
  private final Solver solver;
  private final CodingPlan plan;
  private final boolean gram;
  private final int d;
  private final Scope scope;
  private final Struct<SparseRows> rows;
  private final Struct<SparseCodes> codes;
  private final RowCoder coder;
  private final Buffer live; // [rows]: those that are not done

  /** Bytes of working memory for these rows. */
  static long scratchBytes(
      Dictionary dictionary, Solver solver, int rows, int capacity, boolean gram) {
    Team team = Team.of(dictionary.device(), solver, rows, gram);
    return rows
        * (SparseRows.bytes(capacity, dictionary.width())
            + SparseCodes.bytes(capacity)
            + RowCoder.bytes(dictionary, solver, capacity, gram, team)
            + 4L);
  }

  /**
   * Room for a plan's rows. The dictionary must outlive it.
   *
   * @throws dev.halter.device.OutOfDeviceMemoryException if the device has not the plan's memory
   */
  public SparseCoder(Dictionary dictionary, Solver solver, CodingPlan plan) {
    this(
        dictionary,
        solver,
        plan,
        Team.of(dictionary.device(), solver, plan.rows(), plan.usesGram()));
    if (coder instanceof PursuitCoder pursuit && pursuit.usesClusters()) {
      check();
    }
  }

  private void check() {
    try {
      PursuitCheck.run(device);
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
  }

  /** As above, with the team that takes a row of a pursuit through all its rounds, or null. */
  SparseCoder(Dictionary dictionary, Solver solver, CodingPlan plan, Team team) {
    this.dictionary = dictionary;
    this.device = dictionary.device();
    this.solver = solver;
    this.plan = plan;
    this.gram = plan.usesGram();
    this.d = dictionary.width();
    this.scope = device.scope();
    try {
      this.rows = SparseRows.allocate(scope, plan.rows(), plan.support(), d);
      this.codes = SparseCodes.allocate(scope, plan.rows(), rows.fields());
      this.coder = RowCoder.of(scope, dictionary, solver, plan, team, rows);
      this.live = scope.allocate(4L * plan.rows());
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
  }

  public CodingPlan plan() {
    return plan;
  }

  /**
   * The codes of the last {@link #enqueue}, on the device, for kernels that take {@code
   * SparseCodes} of {@code cuda-kernels/sparse.cuh}.
   */
  public Struct<?> codes() {
    return codes;
  }

  /**
   * Queues coding of rows; results are in {@link #codes} until the next call. Where the host sees
   * the device's memory anyway it stops when all rows are done. Elsewhere a fixed number of rounds
   * is queued, which do nothing for rows that are done, so that the call can be part of a graph; a
   * first call before recording makes what all of them use.
   *
   * @param x [rows, d] f32
   * @param stride floats from row to row
   * @param count rows, at most the plan's
   * @param skip I32 [rows], not 0 for rows that get no code; null for none
   */
  public void enqueue(Buffer x, long stride, int count, Buffer skip) {
    if (gram && !device.sharesHostMemory()) {
      dictionary.gram().requireAll();
    }
    run(x, stride, count, skip, device.sharesHostMemory());
  }

  /**
   * Queues out += factor · Σ coefficient · atom over the codes of the last {@link #enqueue}: with
   * factor 1 and zeros in {@code out} the approximation of x.
   *
   * @param out [rows, d] f32 with {@code stride} floats from row to row
   * @param chosen I32 [n], not 0 for atoms that count; null for all
   */
  public void combine(Buffer out, long stride, int count, float factor, Buffer chosen) {
    device.launch(
        device.kernel("sparse_combine"),
        Grid.of(count),
        ROW_BLOCK,
        0,
        out,
        stride,
        factor,
        codes,
        dictionary.atoms(),
        chosen,
        d);
  }

  /**
   * Codes of any number of vectors, end to end.
   *
   * @return one for each, in their order; a row that cannot be coded has an {@link Code#error}
   */
  public List<Code> solve(float[] x) {
    if (x.length % d != 0) {
      throw new IllegalArgumentException(
          "%,d numbers are no vectors of %,d, as the dictionary's atoms".formatted(x.length, d));
    }
    List<Code> solved = new ArrayList<>();
    int together = plan.rows();
    try (Buffer piece = device.allocate(4L * together * d)) {
      for (int from = 0; from < x.length; from += together * d) {
        int count = Math.min(together, (x.length - from) / d);
        piece.copyFrom(MemorySegment.ofArray(x).asSlice(4L * from, 4L * count * d));
        run(piece, d, count, null, true);
        solved.addAll(read(count, piece));
      }
    }
    return solved;
  }

  /** The codes of the last run as the host sees them. */
  private List<Code> read(int count, Buffer x) {
    SparseCodes found = codes.fields();
    int capacity = found.capacity();
    int[] sizes = found.sizes().toInts(count);
    int[] states = rows.fields().states().toInts(count);
    int[] iterations = found.iterations().toInts(count);
    int[] supports = found.support().toInts(count * capacity);
    float[] coefficients = found.coefficients().toFloats(count * capacity);
    double[] measures = new double[3 * count];
    found.measures().copyTo(MemorySegment.ofArray(measures));
    List<Code> read = new ArrayList<>();
    for (int row = 0; row < count; row++) {
      if (states[row] == SparseRows.FULL && capacity < dictionary.size()) {
        read.add(wider(x.slice(4L * row * d, 4L * d)));
        continue;
      }
      int[] atoms = Arrays.copyOfRange(supports, row * capacity, row * capacity + sizes[row]);
      double[] scaled = new double[atoms.length];
      for (int i = 0; i < atoms.length; i++) {
        scaled[i] = coefficients[row * capacity + i] / dictionary.norm(atoms[i]);
      }
      String error =
          switch (states[row]) {
            case SparseRows.DONE -> null;
            case SparseRows.NOT_FINITE -> "the vector holds values that are not finite";
            default -> "not solved in " + iterations[row] + " rounds: choose a larger alpha";
          };
      read.add(
          new Code(
              atoms,
              scaled,
              measures[3 * row],
              measures[3 * row + 1],
              iterations[row],
              measures[3 * row + 2],
              error));
    }
    return read;
  }

  /** A row that needs more atoms than there is room for. */
  private Code wider(Buffer x) {
    int support = Math.min(2 * plan.support(), dictionary.size());
    CodingPlan wide = CodingPlan.of(dictionary, solver, 1, plan.correlations(), support);
    try (SparseCoder wider = new SparseCoder(dictionary, solver, wide)) {
      wider.run(x, d, 1, null, true);
      return wider.read(1, x).getFirst();
    }
  }

  /** Runs rounds until all rows are done; if nobody watches, as many as may be needed. */
  private void run(Buffer x, long stride, int count, Buffer skip, boolean watched) {
    if (count < 1 || count > plan.rows()) {
      throw new IllegalArgumentException(count + " rows; there is room for " + plan.rows());
    }
    device.launch(
        device.kernel("sparse_begin"), Grid.of(count), ROW_BLOCK, 0, rows, x, stride, skip);
    coder.begin(count);
    boolean cached = gram && solver instanceof Solver.MatchingPursuit && device.sharesHostMemory();
    int together = cached ? CACHED_ROWS : count;
    for (int first = 0; first < count; first += together) {
      rounds(first, Math.min(first + together, count), count, watched);
    }
    device.launch(
        device.kernel("sparse_finish"),
        Grid.of(count),
        ROW_BLOCK,
        0,
        codes,
        rows,
        coder.l1(),
        coder.l2());
  }

  /** The rounds of the rows from first to end, of {@code count}. */
  private void rounds(int first, int end, int count, boolean watched) {
    int places = count;
    Buffer list = null;
    int rounds = coder.rounds(watched);
    for (int round = 0; round < rounds; round++) {
      if (watched) {
        int[] running = rows.fields().running(first, end);
        if (running.length == 0) {
          break;
        }
        if (running.length < places) {
          // Rows that are done drop out of the products.
          places = running.length;
          live.set(running);
          list = live;
        }
        if (gram && round > 0) {
          dictionary.gram().require(rows.fields().inUse(running));
        }
      }
      coder.step(places, list);
    }
  }

  @Override
  public void close() {
    scope.close();
  }
}
