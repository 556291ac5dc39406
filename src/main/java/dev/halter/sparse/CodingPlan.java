package dev.halter.sparse;

import dev.halter.device.DType;
import dev.halter.device.Device;
import java.util.Locale;

/**
 * How a {@link SparseCoder} goes about its work, and the device memory that it takes beside the
 * dictionary.
 *
 * @param correlations where correlations with the residual come from
 * @param screening type of the factors where they come from products: f32 or bf16
 * @param rows most vectors at once
 * @param support most atoms of a code; for elastic net and lasso also of those tried
 * @param scratchBytes working memory of these rows
 * @param gramBytes the Gram matrix, and on the CPU the atoms that pursuits start from; 0 without
 */
public record CodingPlan(
    Correlations correlations,
    DType screening,
    int rows,
    int support,
    long scratchBytes,
    long gramBytes) {

  /** Where the correlations of all atoms with a residual come from. */
  public enum Correlations {
    /** A product of all residuals with all atoms in each round. */
    PRODUCTS,
    /** One product at the start; later those of the atoms in use, from the Gram matrix. */
    GRAM
  }

  /** Below this bf16's rounding would be no small share of an elastic net's threshold. */
  private static final double NARROW_THRESHOLD = 0.01;

  /** Smaller dictionaries have nothing to gain from bf16. */
  private static final int NARROW_SIZE = 1024;

  /** Share of the free memory that a Gram matrix may take. */
  private static final double GRAM_SHARE = 0.5;

  /** Share of the free memory that working memory may take. */
  private static final double SCRATCH_SHARE = 0.2;

  /** What elastic net usually needs: rounds, and atoms in use in one. */
  private static final int ROUNDS = 6;

  private static final int ATOMS_IN_USE = 60;

  /**
   * Seconds, for each number of an atom, that a round of an elastic net takes longer by products on
   * a GPU, where a row's kernel makes its working set's Gram matrix itself. A processor takes a row
   * at a time: on an H200 one row of 4,096 numbers took 435 us by products and 220 us from the Gram
   * matrix of all atoms.
   */
  private static final double WORKING_SET = 215e-6 / 4096;

  /** What a device does in a second, roughly: products in bf16 and in f32, bytes read. */
  private record Speed(double narrow, double wide, double bytes) {
    static Speed of(Device device) {
      return device.kind().equals("cuda")
          ? new Speed(600e12, 40e12, 4e12)
          : new Speed(250e9, 130e9, 20e9);
    }
  }

  /**
   * The plan that should be fastest.
   *
   * @param rows vectors at once; fewer are planned where their working memory would be too much
   * @param vectors in all that the dictionary will meet, which decides whether a Gram matrix is
   *     worth making
   */
  public static CodingPlan of(Dictionary dictionary, Solver solver, int rows, long vectors) {
    long free = dictionary.device().memory().free();
    long row = of(dictionary, solver, 1, Correlations.PRODUCTS).scratchBytes();
    int possible = Math.clamp((long) (SCRATCH_SHARE * free) / row, 1, rows);
    CodingPlan products = of(dictionary, solver, possible, Correlations.PRODUCTS);
    CodingPlan gram = of(dictionary, solver, possible, Correlations.GRAM);
    boolean fits = gram.bytes() <= GRAM_SHARE * free;
    boolean faster =
        gram.seconds(dictionary, solver, vectors) < products.seconds(dictionary, solver, vectors);
    return fits && faster ? gram : products;
  }

  /** A plan with correlations from where the caller wants them. */
  public static CodingPlan of(
      Dictionary dictionary, Solver solver, int rows, Correlations correlations) {
    int n = dictionary.size();
    int support =
        switch (solver) {
          case Solver.Omp omp -> Math.min(omp.k(), n);
          case Solver.MatchingPursuit pursuit -> Math.min(pursuit.k(), n);
          case Solver.ElasticNet net -> Math.min(Solver.DEFAULT_SUPPORT, n);
        };
    return of(dictionary, solver, rows, correlations, support);
  }

  /** As above, with room for so many atoms. */
  static CodingPlan of(
      Dictionary dictionary, Solver solver, int rows, Correlations correlations, int support) {
    int n = dictionary.size();
    boolean narrow =
        n >= NARROW_SIZE
            && !(solver instanceof Solver.ElasticNet net && net.threshold() < NARROW_THRESHOLD);
    boolean gram = correlations == Correlations.GRAM;
    return new CodingPlan(
        correlations,
        narrow ? DType.BF16 : DType.F32,
        rows,
        support,
        SparseCoder.scratchBytes(dictionary, solver, rows, support, gram),
        gram ? Gram.bytes(n) + startBytes(dictionary, solver) : 0);
  }

  private static long startBytes(Dictionary dictionary, Solver solver) {
    return solver instanceof Solver.Omp && PursuitCoder.startsRoughly(dictionary)
        ? QuantisedAtoms.bytes(dictionary.size(), dictionary.width())
        : 0;
  }

  /** Whether correlations come from the Gram matrix. */
  boolean usesGram() {
    return correlations == Correlations.GRAM;
  }

  /** All of its memory. */
  public long bytes() {
    return scratchBytes + gramBytes;
  }

  /** Roughly how long so many vectors take, {@link #rows} at a time. */
  private double seconds(Dictionary dictionary, Solver solver, long vectors) {
    double n = dictionary.size();
    double d = dictionary.width();
    int rounds = ROUNDS;
    int inUse = ATOMS_IN_USE;
    if (!(solver instanceof Solver.ElasticNet)) {
      rounds = support;
      inUse = (support + 1) / 2;
    }
    Speed speed = Speed.of(dictionary.device());
    double batches = Math.max(1.0, (double) vectors / rows);
    double together = Math.min(rows, vectors);
    if (correlations == Correlations.PRODUCTS) {
      boolean narrow = screening == DType.BF16;
      double products = 2 * together * n * d / (narrow ? speed.narrow : speed.wide);
      double reading = n * d * screening.bytes() / speed.bytes;
      return batches
          * rounds
          * (Math.max(products, reading) + workingSets(dictionary, solver, together));
    }
    double used =
        Math.min(n, (double) vectors * (solver instanceof Solver.ElasticNet ? inUse : support));
    double making = 2 * used * n * d / speed.wide;
    double starting = Math.max(2 * together * n * d / speed.wide, 4 * n * d / speed.bytes);
    return making + batches * (starting + together * rounds * inUse * 4 * n / speed.bytes);
  }

  private static double workingSets(Dictionary dictionary, Solver solver, double together) {
    Device device = dictionary.device();
    if (!(solver instanceof Solver.ElasticNet) || !device.kind().equals("cuda")) {
      return 0;
    }
    return Math.ceil(together / device.multiprocessors()) * dictionary.width() * WORKING_SET;
  }

  /** For people. */
  @Override
  public String toString() {
    String how =
        usesGram()
            ? "from the Gram matrix (%s)".formatted(mib(gramBytes))
            : "by products in " + screening.name().toLowerCase(Locale.ROOT);
    return "correlations %s, %,d vectors at once, up to %,d atoms each (%s)"
        .formatted(how, rows, support, mib(scratchBytes));
  }

  private static String mib(long bytes) {
    return "%,d MiB".formatted((bytes + (1 << 20) - 1) >> 20);
  }
}
