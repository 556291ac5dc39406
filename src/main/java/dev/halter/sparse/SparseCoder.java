package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Matrix;
import dev.halter.device.Top;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/**
 * Sparse codes of many vectors at once over one dictionary, on its device. Rows never depend on one
 * another: a row's code is the same in any batch (to the last bit where the device's products keep
 * that promise).
 *
 * <p>A round of any solver is two steps for all rows together. <em>Screening</em> finds for each
 * row the few atoms that could matter, from correlations by one matrix product or from the Gram
 * matrix ({@link CodingPlan}). One kernel then decides by exact dots, and brings code and residual
 * up to date. Screening may be rough: its largest error is known, and an atom that it could hide is
 * looked for exactly.
 *
 * <p>Source of the rounds of elastic net and lasso: You et al., "Oracle based active set algorithm
 * for scalable elastic net subspace clustering" (EnSC, CVPR 2016), which PaCE uses.
 */
public final class SparseCoder implements AutoCloseable {
  private static final int BLOCK = 128;

  /** Atoms that one block screens: few, so that one row fills a GPU; many for longer reads. */
  private static final int CUDA_CHUNK = 1024;

  private static final int CPU_CHUNK = 4096;

  /** Candidates of a pursuit in its list, or in each chunk's list. */
  private static final int PURSUED = 16;

  private static final int PURSUED_IN_CHUNK = 4;

  /** Candidates that a round of elastic net looks at, in all chunks together. */
  private static final int ACTIVATED = 80;

  /** Rounds of elastic net: 4 to 8 are usual, and each brings the end nearer. */
  private static final int MOST_ROUNDS = 200;

  /** Rounds of elastic net that are queued where nobody can look whether they are needed. */
  private static final int QUEUED_ROUNDS = 12;

  /**
   * Rows of a pursuit that go through their rounds together on the CPU with a Gram matrix. Each
   * round reads the matrix' rows of all atoms in use again, 40 KB each at 10,000 atoms: those of
   * few rows stay in the cache (a third more vectors a second there than with 256). Elastic net has
   * few rounds.
   */
  private static final int CACHED_ROWS = 32;

  // States of a row, as in sparse.cuh.
  private static final int RUNNING = 0;
  private static final int DONE = 1;
  private static final int NOT_FINITE = 2;
  private static final int FULL = 3;

  private final Dictionary dictionary;
  private final Device device;
  private final Solver solver;
  private final CodingPlan plan;
  private final Layout layout;
  private final int n;
  private final int d;
  private final List<Buffer> buffers = new ArrayList<>();

  // By row.
  private final Buffer z; // [rows, d]
  private final Buffer residual; // [rows, d]
  private final Buffer norms; // [rows] f64
  private final Buffer states; // [rows]
  private final Buffer counts; // [rows]
  private final Buffer iterations; // [rows]
  private final Buffer violations; // [rows] f64
  private final Buffer slack; // [rows]
  private final Buffer ids; // [rows, capacity]
  private final Buffer weights; // [rows, capacity] f64
  private final Buffer factor; // [rows, capacity, capacity] f64
  private final Buffer work; // [rows, 2, capacity] f64
  private final Buffer workingGram; // [rows, capacity, capacity], elastic net
  private final Buffer active; // [rows, capacity + 1], elastic net
  private final Buffer start; // [rows, n], with a Gram matrix

  // By place in the list of live rows.
  private final Buffer live; // [rows]
  private final Buffer packed; // [rows, d], without a Gram matrix
  private final Buffer correlations; // [rows, n], elastic net without a Gram matrix
  private final Buffer candidates; // [rows, lists, kept]
  private final Buffer values; // [rows, lists, kept]
  private final Buffer exact; // [rows, lists, kept] f64

  // Results, by row.
  private final Buffer support; // [rows, capacity]
  private final Buffer coefficients; // [rows, capacity]
  private final Buffer sizes; // [rows]
  private final Buffer measures; // [rows, 3] f64

  /** Sizes that follow from dictionary and solver. */
  private record Layout(int capacity, boolean gram, boolean net, int chunk, int lists, int kept) {
    static Layout of(Device device, int n, Solver solver, int capacity, boolean gram) {
      boolean net = solver instanceof Solver.ElasticNet;
      int chunk = device.sharesHostMemory() ? CPU_CHUNK : CUDA_CHUNK;
      int chunks = (n + chunk - 1) / chunk;
      int lists = net || gram ? chunks : 1;
      int kept = net ? Math.clamp(ACTIVATED / chunks, 2, 64) : gram ? PURSUED_IN_CHUNK : PURSUED;
      return new Layout(capacity, gram, net, chunk, lists, kept);
    }

    /** Bytes of a row: everything that the constructor allocates. */
    long bytes(int n, int d) {
      long square = (long) capacity * capacity;
      long codes = capacity * (4 + 8 + 2 * 8 + 4 + 4L) + square * 8 + 16L * lists * kept + 100;
      return codes
          + 8L * d
          + (net ? 4 * square + 4L * (capacity + 1) : 0)
          + (gram ? 4L * n : 4L * d)
          + (net && !gram ? 4L * n : 0);
    }
  }

  /** Bytes of working memory for these rows. */
  static long scratchBytes(
      Dictionary dictionary, Solver solver, int rows, int capacity, boolean gram) {
    int n = dictionary.size();
    Layout layout = Layout.of(dictionary.device(), n, solver, capacity, gram);
    return rows * layout.bytes(n, dictionary.width());
  }

  /**
   * Room for a plan's rows. The dictionary must outlive it.
   *
   * @throws dev.halter.device.OutOfDeviceMemoryException if the device has not the plan's memory
   */
  public SparseCoder(Dictionary dictionary, Solver solver, CodingPlan plan) {
    this.dictionary = dictionary;
    this.device = dictionary.device();
    this.solver = solver;
    this.plan = plan;
    this.n = dictionary.size();
    this.d = dictionary.width();
    boolean gram = plan.correlations() == CodingPlan.Correlations.GRAM;
    this.layout = Layout.of(device, n, solver, plan.support(), gram);
    try {
      int rows = plan.rows();
      long codes = (long) rows * layout.capacity;
      long squares = codes * layout.capacity;
      long listed = (long) rows * layout.lists * layout.kept;
      this.z = allocate(4L * rows * d);
      this.residual = allocate(4L * rows * d);
      this.norms = allocate(8L * rows);
      this.states = allocate(4L * rows);
      this.counts = allocate(4L * rows);
      this.iterations = allocate(4L * rows);
      this.violations = allocate(8L * rows);
      this.slack = allocate(4L * rows);
      this.ids = allocate(4 * codes);
      this.weights = allocate(8 * codes);
      this.factor = allocate(8 * squares);
      this.work = allocate(16 * codes);
      this.workingGram = layout.net ? allocate(4 * squares) : null;
      this.active = layout.net ? allocate(4 * codes + 4L * rows) : null;
      this.start = gram ? allocate(4L * rows * n) : null;
      this.live = allocate(4L * rows);
      this.packed = gram ? null : allocate((long) plan.screening().bytes() * rows * d);
      this.correlations = layout.net && !gram ? allocate(4L * rows * n) : null;
      this.candidates = allocate(4 * listed);
      this.values = allocate(4 * listed);
      this.exact = allocate(8 * listed);
      this.support = allocate(4 * codes);
      this.coefficients = allocate(4 * codes);
      this.sizes = allocate(4L * rows);
      this.measures = allocate(24L * rows);
    } catch (RuntimeException | Error e) {
      close();
      throw e;
    }
  }

  private Buffer allocate(long bytes) {
    Buffer buffer = device.allocate(bytes);
    buffers.add(buffer);
    return buffer;
  }

  public CodingPlan plan() {
    return plan;
  }

  /** Most atoms of a code: the row stride of {@link #support} and {@link #coefficients}. */
  public int capacity() {
    return layout.capacity;
  }

  /** After {@link #enqueue}: the atoms of each row, I32 [rows, capacity]. */
  public Buffer support() {
    return support;
  }

  /**
   * After {@link #enqueue}: the coefficients [rows, capacity] f32 of unit atoms, on the scale of x.
   */
  public Buffer coefficients() {
    return coefficients;
  }

  /** After {@link #enqueue}: number of atoms of each row, I32 [rows]; 0 where there is no code. */
  public Buffer sizes() {
    return sizes;
  }

  /** After {@link #enqueue}: rounds of each row, I32 [rows]. */
  public Buffer iterations() {
    return iterations;
  }

  /**
   * After {@link #enqueue}: f64 [rows, 3], objective on x/‖x‖, norm of the residual on the scale of
   * x, largest violation of the optimality conditions on x/‖x‖. As in {@link Code}.
   */
  public Buffer measures() {
    return measures;
  }

  /**
   * Queues coding of rows; results are in this coder's buffers until the next call. Where the host
   * sees the device's memory anyway it stops when all rows are done. Elsewhere a fixed number of
   * rounds is queued, which do nothing for rows that are done, so that the call can be part of a
   * graph; a first call before recording makes what all of them use.
   *
   * @param x [rows, d] f32
   * @param stride floats from row to row
   * @param rows at most the plan's
   * @param skip I32 [rows], not 0 for rows that get no code; null for none
   */
  public void enqueue(Buffer x, long stride, int rows, Buffer skip) {
    if (layout.gram && !device.sharesHostMemory()) {
      dictionary.gram().requireAll();
    }
    run(x, stride, rows, skip, device.sharesHostMemory());
  }

  /**
   * Queues out += factor · Σ coefficient · atom over the codes of the last {@link #enqueue}: with
   * factor 1 and zeros in {@code out} the approximation of x.
   *
   * @param out [rows, d] f32 with {@code stride} floats from row to row
   * @param chosen I32 [n], not 0 for atoms that count; null for all
   */
  public void combine(Buffer out, long stride, int rows, float factor, Buffer chosen) {
    device.launch(
        device.kernel("sparse_combine"),
        Grid.of(rows),
        BLOCK,
        0,
        out,
        stride,
        factor,
        support,
        coefficients,
        sizes,
        layout.capacity,
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
    List<Code> codes = new ArrayList<>();
    int together = plan.rows();
    try (Buffer piece = device.allocate(4L * together * d)) {
      for (int from = 0; from < x.length; from += together * d) {
        int rows = Math.min(together, (x.length - from) / d);
        piece.copyFrom(MemorySegment.ofArray(x).asSlice(4L * from, 4L * rows * d));
        run(piece, d, rows, null, true);
        codes.addAll(read(rows, piece));
      }
    }
    return codes;
  }

  /** The codes of the last run as the host sees them. */
  private List<Code> read(int rows, Buffer x) {
    int capacity = layout.capacity;
    int[] sizesOf = sizes.toInts(rows);
    int[] statesOf = states.toInts(rows);
    int[] iterationsOf = iterations.toInts(rows);
    int[] supports = support.toInts(rows * capacity);
    float[] weightsOf = coefficients.toFloats(rows * capacity);
    double[] measured = new double[3 * rows];
    measures.copyTo(MemorySegment.ofArray(measured));
    List<Code> codes = new ArrayList<>();
    for (int row = 0; row < rows; row++) {
      if (statesOf[row] == FULL && capacity < n) {
        codes.add(wider(x.slice(4L * row * d, 4L * d)));
        continue;
      }
      int[] atoms = Arrays.copyOfRange(supports, row * capacity, row * capacity + sizesOf[row]);
      double[] scaled = new double[atoms.length];
      for (int i = 0; i < atoms.length; i++) {
        scaled[i] = weightsOf[row * capacity + i] / dictionary.norm(atoms[i]);
      }
      String error =
          switch (statesOf[row]) {
            case DONE -> null;
            case NOT_FINITE -> "the vector holds values that are not finite";
            default -> "not solved in " + iterationsOf[row] + " rounds: choose a larger alpha";
          };
      codes.add(
          new Code(
              atoms,
              scaled,
              measured[3 * row],
              measured[3 * row + 1],
              iterationsOf[row],
              measured[3 * row + 2],
              error));
    }
    return codes;
  }

  /** A row that needs more atoms than there is room for. */
  private Code wider(Buffer x) {
    int support = Math.min(2 * layout.capacity, n);
    CodingPlan wide = CodingPlan.of(dictionary, solver, 1, plan.correlations(), support);
    try (SparseCoder coder = new SparseCoder(dictionary, solver, wide)) {
      coder.run(x, d, 1, null, true);
      return coder.read(1, x).getFirst();
    }
  }

  /** Runs rounds until all rows are done; if nobody watches, as many as may be needed. */
  private void run(Buffer x, long stride, int rows, Buffer skip, boolean watch) {
    if (rows < 1 || rows > plan.rows()) {
      throw new IllegalArgumentException(rows + " rows; there is room for " + plan.rows());
    }
    device.launch(
        device.kernel("sparse_begin"),
        Grid.of(rows),
        BLOCK,
        0,
        z,
        residual,
        norms,
        states,
        counts,
        iterations,
        violations,
        x,
        stride,
        skip,
        d);
    if (layout.gram) {
      device.multiply(
          rows,
          n,
          d,
          new Matrix(z, DType.F32, d),
          dictionary.matrix(),
          new Matrix(start, DType.F32, n));
    }
    boolean cached = layout.gram && !layout.net && device.sharesHostMemory();
    int together = cached ? CACHED_ROWS : rows;
    for (int first = 0; first < rows; first += together) {
      rounds(first, Math.min(first + together, rows), rows, watch);
    }
    finish(rows);
  }

  /** The rounds of the rows from first to end, of all. */
  private void rounds(int first, int end, int rows, boolean watch) {
    int rounds =
        switch (solver) {
          case Solver.Omp omp -> layout.capacity;
          case Solver.MatchingPursuit pursuit -> pursuit.k();
          case Solver.ElasticNet net -> watch ? MOST_ROUNDS : QUEUED_ROUNDS;
        };
    int places = rows;
    Buffer list = null;
    for (int round = 0; round < rounds; round++) {
      if (watch) {
        int[] running = running(first, end);
        if (running.length == 0) {
          break;
        }
        if (running.length < places) {
          // Rows that are done drop out of the products.
          places = running.length;
          live.set(running);
          list = live;
        }
        if (layout.gram && round > 0) {
          dictionary.gram().require(inUse(running));
        }
      }
      screen(places, list);
      step(places, list);
    }
  }

  /** The rows from first to end that are not done. */
  private int[] running(int first, int end) {
    int[] all = states.toInts(end);
    return IntStream.range(first, end).filter(row -> all[row] == RUNNING).toArray();
  }

  /** The atoms whose coefficients are not 0. */
  private IntStream inUse(int[] running) {
    int rows = running[running.length - 1] + 1;
    int capacity = layout.capacity;
    int[] count = counts.toInts(rows);
    int[] atoms = ids.toInts(rows * capacity);
    double[] weight = new double[rows * capacity];
    weights.copyTo(MemorySegment.ofArray(weight));
    return IntStream.of(running)
        .flatMap(row -> IntStream.range(row * capacity, row * capacity + count[row]))
        .filter(at -> weight[at] != 0)
        .map(at -> atoms[at]);
  }

  /** Finds candidates: lists of atoms with rough correlations, and how rough they are. */
  private void screen(int places, Buffer list) {
    if (layout.gram) {
      int again = solver instanceof Solver.MatchingPursuit ? 1 : 0;
      device.launch(
          device.kernel("screen_gram"),
          Grid.of(places, layout.lists),
          BLOCK,
          0,
          candidates,
          values,
          slack,
          start,
          dictionary.gram().matrix(),
          n,
          layout.chunk,
          layout.kept,
          states,
          ids,
          weights,
          counts,
          layout.capacity,
          again,
          list);
      return;
    }
    boolean narrow = plan.screening() == DType.BF16;
    device.launch(
        device.kernel(narrow ? "sparse_pack_bf16" : "sparse_pack_f32"),
        Grid.of(places),
        BLOCK,
        0,
        packed,
        slack,
        residual,
        list,
        d,
        narrow ? (float) dictionary.narrowing() : 0f);
    Matrix residuals = new Matrix(packed, plan.screening(), d);
    Matrix atoms = narrow ? dictionary.narrowMatrix() : dictionary.matrix();
    if (!layout.net) {
      Top top = new Top(Top.Sign.ABSOLUTE, layout.kept, candidates, values, null);
      device.multiplyTop(places, n, d, residuals, atoms, top);
      return;
    }
    device.multiply(places, n, d, residuals, atoms, new Matrix(correlations, DType.F32, n));
    device.launch(
        device.kernel("screen_product"),
        Grid.of(places, layout.lists),
        BLOCK,
        0,
        candidates,
        values,
        correlations,
        n,
        layout.chunk,
        layout.kept,
        states,
        ids,
        counts,
        layout.capacity,
        list);
  }

  /** Brings every row's code and residual up to date. */
  private void step(int places, Buffer list) {
    switch (solver) {
      case Solver.Omp omp ->
          device.launch(
              device.kernel("orthogonal_matching_pursuit"),
              Grid.of(places),
              BLOCK,
              0,
              states,
              counts,
              iterations,
              violations,
              ids,
              weights,
              factor,
              work,
              residual,
              z,
              slack,
              candidates,
              values,
              exact,
              layout.lists,
              layout.kept,
              dictionary.atoms(),
              n,
              d,
              layout.capacity,
              layout.capacity,
              (float) omp.tolerance(),
              list);
      case Solver.MatchingPursuit pursuit ->
          device.launch(
              device.kernel("matching_pursuit"),
              Grid.of(places),
              BLOCK,
              0,
              states,
              counts,
              iterations,
              ids,
              weights,
              residual,
              slack,
              candidates,
              values,
              exact,
              layout.lists,
              layout.kept,
              dictionary.atoms(),
              n,
              d,
              layout.capacity,
              pursuit.k(),
              list);
      case Solver.ElasticNet net ->
          device.launch(
              device.kernel("active_set"),
              Grid.of(places),
              BLOCK,
              0,
              states,
              counts,
              iterations,
              violations,
              ids,
              weights,
              workingGram,
              factor,
              work,
              active,
              residual,
              z,
              slack,
              candidates,
              values,
              exact,
              layout.lists,
              layout.kept,
              dictionary.atoms(),
              layout.gram ? dictionary.gram().complete() : null,
              n,
              d,
              layout.capacity,
              (float) net.threshold(),
              (float) net.ridge(),
              list);
    }
  }

  private void finish(int rows) {
    Solver.ElasticNet net = solver instanceof Solver.ElasticNet elastic ? elastic : null;
    device.launch(
        device.kernel("sparse_finish"),
        Grid.of(rows),
        BLOCK,
        0,
        support,
        coefficients,
        sizes,
        measures,
        counts,
        ids,
        weights,
        residual,
        norms,
        violations,
        d,
        layout.capacity,
        net == null ? 0f : (float) net.threshold(),
        net == null ? 0f : (float) net.ridge());
  }

  @Override
  public void close() {
    buffers.forEach(Buffer::close);
  }
}
