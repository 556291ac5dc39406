package dev.halter.files;

import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * One of several parts of a piece of work, which are done apart and put together again. They follow
 * one another without a gap and are as equal as can be.
 *
 * @param index from 0
 * @param count of parts
 */
public record Shard(int index, int count) {
  /** All of it. */
  public static final Shard WHOLE = new Shard(0, 1);

  /** In metadata and documents: which part a file holds. */
  public static final String KEY = "shard";

  private static final Pattern TEXT = Pattern.compile("(\\d{1,9})/(\\d{1,9})");

  public Shard {
    if (count < 1 || index < 0 || index >= count) {
      throw new IllegalArgumentException(
          "shard %d/%d: of N parts one is 0/N to (N-1)/N".formatted(index, count));
    }
  }

  /**
   * Reads {@code I/N}.
   *
   * @throws IllegalArgumentException if it is none
   */
  public static Shard parse(String text) {
    Matcher numbers = TEXT.matcher(text);
    if (!numbers.matches()) {
      throw new IllegalArgumentException("'" + text + "' is not as 0/8, one of eight shards");
    }
    return new Shard(Integer.parseInt(numbers.group(1)), Integer.parseInt(numbers.group(2)));
  }

  /** Whether there are no others. */
  public boolean isWhole() {
    return count == 1;
  }

  /** The first of {@code total} things that is this part's. */
  public long begin(long total) {
    return begin(index, total);
  }

  /** One past its last. */
  public long end(long total) {
    return begin(index + 1, total);
  }

  /** How many of {@code total} things are this part's. */
  public long size(long total) {
    return end(total) - begin(total);
  }

  /** What of a list is this part's, as a view. */
  public <T> List<T> of(List<T> all) {
    return all.subList((int) begin(all.size()), (int) end(all.size()));
  }

  /** total · i / n without overflow. */
  private long begin(int i, long total) {
    return total / count * i + total % count * i / count;
  }

  /** {@code I/N}. */
  @Override
  public String toString() {
    return index + "/" + count;
  }
}
