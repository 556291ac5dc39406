package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.device.Struct;

/**
 * Orthogonal matching pursuit from a Gram matrix, a row's rounds all in one launch: {@code
 * cuda-kernels/sparse_pursue.cu}. With many rows on a GPU, which {@link OmpCoder} takes through
 * their rounds together, it would read each row's part of the matrix by few processors.
 */
final class PursuitCoder implements RowCoder {
  /** By what a row is coded. */
  enum Team {
    /** A block: {@code sparse_pursue.cu}. */
    BLOCK,
    /** Eight blocks of a cluster, with the same bits: {@code sparse_pursue_sm90.cu}. */
    CLUSTER;

    private static final String PROPERTY = "halter.pursuit";

    /** Most rows of a coder on a GPU. */
    private static final int FEW = 64;

    /**
     * The team that {@code -Dhalter.pursuit} asks for; null where there is none, and rounds are
     * made by screening and {@link OmpCoder}. {@code auto}, the default, takes clusters where the
     * device runs them.
     */
    static Team of(Device device, Solver solver, int rows, boolean gram) {
      String wanted = System.getProperty(PROPERTY, "auto");
      Team team =
          switch (wanted) {
            case "auto", "cluster" -> device.runsSm90() ? CLUSTER : BLOCK;
            case "block" -> BLOCK;
            case "rounds" -> null;
            default ->
                throw new IllegalArgumentException(
                    "-D%s=%s: choose auto, cluster, block or rounds".formatted(PROPERTY, wanted));
          };
      boolean fits = device.sharesHostMemory() || rows <= FEW;
      return solver instanceof Solver.Omp && gram && fits ? team : null;
    }
  }

  /** Threads of a block, on the CPU one. */
  private static final int BLOCK = 512;

  /** Blocks of a cluster; the kernel's constant. */
  private static final int PURSUERS = 8;

  private static final int WARPS = PURSUERS * BLOCK / 32;

  /** Launches of clusters one after another from which on a block a row is faster: a guess. */
  private static final int WAVES = 2;

  /** Most rows that start roughly: a product of more reads the atoms once for all of them. */
  private static final int ROUGH_ROWS = 4;

  /** Atoms of dictionaries whose pursuits start roughly, at least. */
  private static final int LARGE = 1024;

  /** Atoms of a block of {@code sparse_start}; the kernel's constant. */
  private static final int ATOMS = 64;

  private final Dictionary dictionary;
  private final Team team;
  private final Struct<SparseRows> rows;
  private final Struct<SparsePursuit> pursuit;
  private final boolean startsRoughly; // where rows are few
  private final int most;
  private final int sharedBytes;
  private final float tolerance;

  PursuitCoder(
      Scope scope,
      Dictionary dictionary,
      Solver.Omp omp,
      CodingPlan plan,
      Team team,
      Struct<SparseRows> rows) {
    this.dictionary = dictionary;
    this.team = team;
    this.rows = rows;
    this.most = plan.support();
    this.sharedBytes = SparsePursuit.sharedBytes(most, WARPS);
    this.tolerance = (float) omp.tolerance();
    this.startsRoughly = startsRoughly(dictionary);
    this.pursuit =
        SparsePursuit.allocate(scope, plan.rows(), dictionary.size(), most, WARPS, startsRoughly);
  }

  /**
   * Whether few rows start from quantised atoms: on the CPU, and where correlations, not rounds,
   * are most of the work.
   */
  static boolean startsRoughly(Dictionary dictionary) {
    return dictionary.device().sharesHostMemory() && dictionary.size() >= LARGE;
  }

  /** Bytes of a row. */
  static long bytes(Dictionary dictionary, int capacity) {
    return SparsePursuit.bytes(dictionary.size(), capacity, WARPS, startsRoughly(dictionary));
  }

  /** Whose blocks reach one another's shared memory, so what they work with must be there. */
  boolean usesClusters() {
    return team == Team.CLUSTER && sharedBytes > 0;
  }

  /** Each launch but the last ends at a row of the Gram matrix that is to be made. */
  @Override
  public int rounds(boolean watched) {
    return watched ? most : 1;
  }

  @Override
  public void begin(int count) {
    int n = dictionary.size();
    int d = dictionary.width();
    Device device = dictionary.device();
    if (startsRoughly && count <= ROUGH_ROWS) {
      QuantisedAtoms quantised = dictionary.quantised();
      device.launch(
          device.kernel("sparse_start"),
          Grid.of((n + ATOMS - 1) / ATOMS),
          BLOCK,
          0,
          rows,
          pursuit,
          quantised.steps(),
          quantised.scales(),
          count,
          n,
          quantised.moved());
      return;
    }
    Matrix z = new Matrix(rows.fields().z(), DType.F32, d);
    Matrix start = new Matrix(pursuit.fields().start(), DType.F32, n);
    device.multiply(count, n, d, z, dictionary.matrix(), start);
  }

  @Override
  public void step(int places, Buffer live) {
    Device device = dictionary.device();
    int atOnce = Math.max(1, device.multiprocessors() / PURSUERS);
    boolean cluster = usesClusters() && places <= WAVES * atOnce;
    device.launch(
        device.kernel(cluster ? "sparse_pursue_sm90" : "sparse_pursue"),
        Grid.of(cluster ? PURSUERS * places : places),
        BLOCK,
        sharedBytes,
        rows,
        pursuit,
        dictionary.atoms(),
        dictionary.gram().matrix(),
        dictionary.gram().made(),
        dictionary.size(),
        most,
        tolerance,
        live);
  }
}
