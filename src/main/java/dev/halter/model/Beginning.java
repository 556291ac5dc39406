package dev.halter.model;

import java.util.Arrays;
import java.util.Objects;

/**
 * The first tokens of a sequence with what edits do to each: all that their keys and values depend
 * on. Ordered token by token.
 */
public final class Beginning implements Comparable<Beginning> {
  private final int[] tokens;
  private final long[] edits;
  private final int from;
  private final int to;

  /**
   * Of a whole sequence, or of a part from its first token on.
   *
   * @param tokens which must not change after
   * @param edits for each token a number that stands for what is done to it: 0 for nothing; equal
   *     numbers only where the very same is done; likewise
   */
  public Beginning(int[] tokens, long[] edits) {
    this(tokens, edits, 0, tokens.length);
    if (edits.length != tokens.length) {
      throw new IllegalArgumentException(
          "%d tokens, but what is done to %d".formatted(tokens.length, edits.length));
    }
  }

  /** Tokens that nothing is done to. */
  public Beginning(int... tokens) {
    this(tokens, new long[tokens.length]);
  }

  private Beginning(int[] tokens, long[] edits, int from, int to) {
    this.tokens = tokens;
    this.edits = edits;
    this.from = from;
    this.to = to;
  }

  /** How many tokens there are. */
  public int length() {
    return to - from;
  }

  /** The first {@code count} tokens. */
  public Beginning first(int count) {
    Objects.checkIndex(count, length() + 1);
    return new Beginning(tokens, edits, from, from + count);
  }

  /** What one page holds of them; of the last maybe less than a page. */
  Beginning page(int index) {
    int begin = from + index * KvCache.PAGE;
    return new Beginning(tokens, edits, begin, Math.min(to, begin + KvCache.PAGE));
  }

  /** How many leading tokens are equal here and there, and are treated alike. */
  public int common(Beginning other) {
    int most = Math.min(length(), other.length());
    int token =
        Arrays.mismatch(tokens, from, from + most, other.tokens, other.from, other.from + most);
    int edit =
        Arrays.mismatch(edits, from, from + most, other.edits, other.from, other.from + most);
    return Math.min(token < 0 ? most : token, edit < 0 ? most : edit);
  }

  /**
   * How many of the first {@code count} tokens sequences may have from each other: whole pages, and
   * behind them what nothing is done to. Reports of edits are had by the page ({@link ChangeSums}),
   * so that one in which an edit has acted is shared whole or not at all.
   */
  public int sharable(int count) {
    int end = count / KvCache.PAGE * KvCache.PAGE;
    while (end < count && edits[from + end] == 0) {
      end++;
    }
    return end;
  }

  @Override
  public int compareTo(Beginning other) {
    int common = common(other);
    if (common == Math.min(length(), other.length())) {
      return Integer.compare(length(), other.length());
    }
    int byToken = Integer.compare(tokens[from + common], other.tokens[other.from + common]);
    return byToken != 0
        ? byToken
        : Long.compare(edits[from + common], other.edits[other.from + common]);
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof Beginning beginning && compareTo(beginning) == 0;
  }

  @Override
  public int hashCode() {
    int hash = 1;
    for (int i = from; i < to; i++) {
      hash = 31 * (31 * hash + tokens[i]) + Long.hashCode(edits[i]);
    }
    return hash;
  }
}
