package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.device.Struct;
import dev.halter.device.Top;

/**
 * Finds for each live row the few atoms that could matter, and how rough their correlations with
 * the residual are.
 */
abstract sealed class Screening {
  /** Most atoms that a block screens; the kernels' constant. */
  private static final int MOST_IN_CHUNK = 4096;

  /** Atoms that a block screens: few, so that one row fills a GPU; many for longer reads. */
  private static final int CUDA_CHUNK = 1024;

  private static final int CPU_CHUNK = MOST_IN_CHUNK;

  /** Candidates of a pursuit in its list, or in each chunk's list. */
  private static final int PURSUED = 16;

  private static final int PURSUED_IN_CHUNK = 4;

  /** Candidates that a round of elastic net looks at, in all chunks together. */
  private static final int ACTIVATED = 80;

  final Dictionary dictionary;
  final Struct<SparseRows> rows;
  final Lists lists;
  final Struct<SparseCandidates> candidates;

  private Screening(
      Scope scope, Dictionary dictionary, Struct<SparseRows> rows, Lists lists, int together) {
    this.dictionary = dictionary;
    this.rows = rows;
    this.lists = lists;
    this.candidates = SparseCandidates.allocate(scope, together, lists.count, lists.kept);
  }

  /** Sizes of the lists of candidates. */
  record Lists(int chunk, int count, int kept) {
    static Lists of(Dictionary dictionary, Solver solver, boolean gram) {
      boolean net = solver instanceof Solver.ElasticNet;
      int chunk = dictionary.device().sharesHostMemory() ? CPU_CHUNK : CUDA_CHUNK;
      int chunks = (dictionary.size() + chunk - 1) / chunk;
      int count = net || gram ? chunks : 1;
      int kept = net ? Math.clamp(ACTIVATED / chunks, 2, 64) : gram ? PURSUED_IN_CHUNK : PURSUED;
      return new Lists(chunk, count, kept);
    }
  }

  /**
   * The screening that a solver takes under a plan.
   *
   * @param scope that what it allocates lives in
   */
  static Screening of(
      Scope scope, Dictionary dictionary, Solver solver, CodingPlan plan, Struct<SparseRows> rows) {
    boolean gram = plan.usesGram();
    Lists lists = Lists.of(dictionary, solver, gram);
    if (gram) {
      boolean again = solver instanceof Solver.MatchingPursuit;
      return new FromGram(scope, dictionary, rows, lists, plan.rows(), again);
    }
    return solver instanceof Solver.ElasticNet
        ? new FromProducts(scope, dictionary, rows, lists, plan)
        : new FromTops(scope, dictionary, rows, lists, plan);
  }

  /** Bytes of a row: of candidates, and of what they are found with. */
  static long bytes(Dictionary dictionary, Solver solver, boolean gram) {
    Lists lists = Lists.of(dictionary, solver, gram);
    long n = dictionary.size();
    long found = SparseCandidates.bytes(lists.count, lists.kept);
    if (gram) {
      return found + 4 * n;
    }
    // Residuals packed as f32: the screening's type is not known yet.
    return found + 4L * dictionary.width() + (solver instanceof Solver.ElasticNet ? 4 * n : 0);
  }

  /** Queues what all rounds of so many rows use, before the first. */
  void begin(int count) {}

  /**
   * Queues finding the candidates of each place.
   *
   * @param live rows [places]; null for all
   */
  abstract void screen(int places, Buffer live);

  /** From the correlations with z and the rows of the Gram matrix of the atoms in use. */
  private static final class FromGram extends Screening {
    private final Buffer start; // [rows, n]
    private final boolean again;

    /** A row's atoms are candidates {@code again} where one may be taken more than once. */
    FromGram(
        Scope scope,
        Dictionary dictionary,
        Struct<SparseRows> rows,
        Lists lists,
        int together,
        boolean again) {
      super(scope, dictionary, rows, lists, together);
      this.start = scope.allocate(4L * together * dictionary.size());
      this.again = again;
    }

    @Override
    void begin(int count) {
      int n = dictionary.size();
      int d = dictionary.width();
      dictionary
          .device()
          .multiply(
              count,
              n,
              d,
              new Matrix(rows.fields().z(), DType.F32, d),
              dictionary.matrix(),
              new Matrix(start, DType.F32, n));
    }

    @Override
    void screen(int places, Buffer live) {
      Device device = dictionary.device();
      device.launch(
          device.kernel("screen_gram"),
          Grid.of(places, lists.count),
          SparseCoder.BLOCK,
          0,
          candidates,
          rows,
          start,
          dictionary.gram().matrix(),
          dictionary.size(),
          lists.chunk,
          again ? 1 : 0,
          live);
    }
  }

  /** By a product of all residuals with all atoms, of which only the best entries are kept. */
  private static final class FromTops extends Screening {
    private final Residuals residuals;

    FromTops(
        Scope scope, Dictionary dictionary, Struct<SparseRows> rows, Lists lists, CodingPlan plan) {
      super(scope, dictionary, rows, lists, plan.rows());
      this.residuals = new Residuals(scope, dictionary, rows, plan);
    }

    @Override
    void screen(int places, Buffer live) {
      SparseCandidates found = candidates.fields();
      Matrix packed = residuals.pack(places, live);
      Top top = new Top(Top.Sign.ABSOLUTE, found.kept(), found.ids(), found.values(), null);
      dictionary
          .device()
          .multiplyTop(
              places, dictionary.size(), dictionary.width(), packed, residuals.atoms(), top);
    }
  }

  /** By a product of all residuals with all atoms, less the atoms that a row has. */
  private static final class FromProducts extends Screening {
    private final Residuals residuals;
    private final Buffer correlations; // [places, n]

    FromProducts(
        Scope scope, Dictionary dictionary, Struct<SparseRows> rows, Lists lists, CodingPlan plan) {
      super(scope, dictionary, rows, lists, plan.rows());
      this.residuals = new Residuals(scope, dictionary, rows, plan);
      this.correlations = scope.allocate(4L * plan.rows() * dictionary.size());
    }

    @Override
    void screen(int places, Buffer live) {
      Device device = dictionary.device();
      int n = dictionary.size();
      Matrix packed = residuals.pack(places, live);
      Matrix product = new Matrix(correlations, DType.F32, n);
      device.multiply(places, n, dictionary.width(), packed, residuals.atoms(), product);
      device.launch(
          device.kernel("screen_product"),
          Grid.of(places, lists.count),
          SparseCoder.BLOCK,
          0,
          candidates,
          rows,
          correlations,
          n,
          lists.chunk,
          live);
    }
  }

  /** The residuals of live rows as a factor of products, and the atoms in the same type. */
  private record Residuals(
      Dictionary dictionary, Struct<SparseRows> rows, boolean narrow, Buffer packed) {

    Residuals(Scope scope, Dictionary dictionary, Struct<SparseRows> rows, CodingPlan plan) {
      this(
          dictionary,
          rows,
          plan.screening() == DType.BF16,
          scope.allocate((long) plan.screening().bytes() * plan.rows() * dictionary.width()));
    }

    Matrix pack(int places, Buffer live) {
      Device device = dictionary.device();
      device.launch(
          device.kernel(narrow ? "sparse_pack_bf16" : "sparse_pack_f32"),
          Grid.of(places),
          SparseCoder.BLOCK,
          0,
          packed,
          rows,
          live,
          narrow ? (float) dictionary.narrowing() : 0f);
      return new Matrix(packed, narrow ? DType.BF16 : DType.F32, dictionary.width());
    }

    Matrix atoms() {
      return narrow ? dictionary.narrowMatrix() : dictionary.matrix();
    }
  }
}
