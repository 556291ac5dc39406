package dev.halter.device;

/**
 * Where {@link Device#multiplyTop} puts what it keeps of each row of a product P: its {@code kept}
 * best entries and its log-sum-exp. S, the number of lists of a row, is 2 for {@link Sign#BOTH} and
 * else 1.
 *
 * @param kept entries of a list, 1 to {@link #MAX_KEPT}
 * @param ids i32 [m, S, kept], columns of P, best first, the lowest id first among equals; -1 where
 *     a row has fewer entries. NaN and, unless {@link Sign#ABSOLUTE} is asked for, -infinity (after
 *     the sign) count as absent.
 * @param values f32 [m, S, kept], the entries times the list's sign; -infinity where there is none
 * @param logSum f32 [m, S, 2] = {maximum v, sum of exp(entry - v)} over the whole row, entries
 *     times the list's sign, so that the log-sum-exp is v + log(sum); NaN in the row makes the sum
 *     NaN. Null if it is not wanted, as always with {@link Sign#ABSOLUTE}.
 */
public record Top(Sign sign, int kept, Buffer ids, Buffer values, Buffer logSum) {

  /** What makes an entry good. */
  public enum Sign {
    /** The largest entries of P. */
    PLUS(0),
    /** The largest entries of -P. */
    MINUS(1),
    /** Two lists for each row: of P and of -P. */
    BOTH(2),
    /** The entries of largest magnitude, kept with their signs. */
    ABSOLUTE(3);

    private final int number;

    Sign(int number) {
      this.number = number;
    }

    /** What kernels call it by. */
    public int number() {
      return number;
    }

    /** S. */
    public int lists() {
      return this == BOTH ? 2 : 1;
    }
  }

  /** Most entries of a list. */
  public static final int MAX_KEPT = 64;

  public Top {
    if (kept < 1 || kept > MAX_KEPT) {
      throw new IllegalArgumentException(
          "the top %d entries were asked for; 1 to %d can be kept".formatted(kept, MAX_KEPT));
    }
    if (sign == Sign.ABSOLUTE && logSum != null) {
      throw new IllegalArgumentException("magnitudes have no log-sum-exp");
    }
  }

  /** Room for {@code rows} rows, with log-sum-exp but for {@link Sign#ABSOLUTE}. */
  public static Top allocate(Scope scope, Sign sign, int kept, int rows) {
    long lists = (long) rows * sign.lists();
    // Checks its arguments before anything is allocated.
    Top none = new Top(sign, kept, null, null, null);
    return new Top(
        none.sign,
        none.kept,
        scope.allocate(4 * lists * kept),
        scope.allocate(4 * lists * kept),
        sign == Sign.ABSOLUTE ? null : scope.allocate(8 * lists));
  }

  /** The same for the rows from {@code row} on. */
  public Top from(int row) {
    long lists = (long) row * sign.lists();
    return new Top(
        sign,
        kept,
        ids.slice(4 * lists * kept),
        values.slice(4 * lists * kept),
        logSum == null ? null : logSum.slice(8 * lists));
  }

  /** The natural log of the sum of exp(entry) of each list of the first {@code rows} rows. */
  public float[] logSumExp(int rows) {
    float[] pairs = logSum.toFloats(2 * rows * sign.lists());
    float[] logs = new float[pairs.length / 2];
    for (int i = 0; i < logs.length; i++) {
      logs[i] = (float) (pairs[2 * i] + Math.log(pairs[2 * i + 1]));
    }
    return logs;
  }

  /**
   * Checks a call of {@link Device#multiplyTop}.
   *
   * @throws IllegalArgumentException if a factor or this has not the size for it
   */
  public void require(int m, int n, int k, Matrix x, Matrix w) {
    if (m < 1 || n < 1 || k < 1) {
      throw new IllegalArgumentException("no product of %d x %d x %d".formatted(m, n, k));
    }
    if (x.transposed() || w.transposed()) {
      throw new IllegalArgumentException("best entries are of factors that are not transposed");
    }
    x.requireHolds("x", m, k);
    w.requireHolds("w", n, k);
    long lists = (long) m * sign.lists();
    if (ids.bytes() < 4 * lists * kept
        || values.bytes() < 4 * lists * kept
        || (logSum != null && logSum.bytes() < 8 * lists)) {
      throw new IllegalArgumentException(
          "the %d best of %d lists do not fit buffers of %d, %d and %d bytes"
              .formatted(
                  kept, lists, ids.bytes(), values.bytes(), logSum == null ? 0 : logSum.bytes()));
    }
  }
}
