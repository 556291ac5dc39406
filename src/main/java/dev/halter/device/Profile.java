package dev.halter.device;

import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.LongConsumer;

/**
 * What ran on a device, by kernel, product and copy: how often, for how long, and how much it
 * moved.
 *
 * <p>Bytes of kernels are those that their contracts state ({@code cuda-kernels/*.cu}, "Moves"),
 * without what steering's edits add; those of a product are its three matrices, each once. Where a
 * launch's bytes are not known, those of its row are not.
 */
public final class Profile {
  /** Of bytes and operations: not known. */
  public static final long UNKNOWN = -1;

  /**
   * One kernel, product or copy.
   *
   * @param bytes moved, or {@link #UNKNOWN}
   * @param operations additions and multiplications in floating point, or {@link #UNKNOWN}
   */
  public record Row(String name, long launches, long nanoseconds, long bytes, long operations) {}

  /** The sums of one row. */
  static final class Sum implements LongConsumer {
    private final String name;
    private long launches;
    private long nanoseconds;
    private long bytes;
    private long operations;

    private Sum(String name) {
      this.name = name;
    }

    /** One launch more; its time comes later. */
    void count(long moved, long operated) {
      launches++;
      bytes = bytes == UNKNOWN || moved == UNKNOWN ? UNKNOWN : bytes + moved;
      operations = operations == UNKNOWN || operated == UNKNOWN ? UNKNOWN : operations + operated;
    }

    @Override
    public void accept(long more) {
      nanoseconds += more;
    }
  }

  private final Map<String, Sum> sums = new HashMap<>();

  Profile() {}

  Sum of(String name) {
    return sums.computeIfAbsent(name, Sum::new);
  }

  /** What ran, the longest first. */
  public List<Row> rows() {
    return sums.values().stream()
        .map(sum -> new Row(sum.name, sum.launches, sum.nanoseconds, sum.bytes, sum.operations))
        .sorted(Comparator.comparingLong(Row::nanoseconds).reversed().thenComparing(Row::name))
        .toList();
  }

  /**
   * {@link #rows} as a table for people, with shares and totals; empty if nothing ran.
   *
   * @param device what it ran on
   */
  public String table(String device) {
    List<Row> rows = rows();
    if (rows.isEmpty()) {
      return "";
    }
    Row total = new Row("total", 0, 0, 0, 0);
    for (Row row : rows) {
      total =
          new Row(
              total.name,
              total.launches + row.launches,
              total.nanoseconds + row.nanoseconds,
              UNKNOWN,
              UNKNOWN);
    }
    StringBuilder table = new StringBuilder("profile of " + device + "\n");
    table.append("   time ms   share   launches          MB     GB/s   GFLOP/s  what\n");
    for (Row row : rows) {
      line(table, row, total.nanoseconds);
    }
    line(table, total, total.nanoseconds);
    return table.toString();
  }

  private static void line(StringBuilder table, Row row, long total) {
    table.append(
        String.format(
            Locale.ROOT,
            "%,10.2f %6.1f%% %,10d %11s %8s %9s  %s%n",
            row.nanoseconds / 1e6,
            total == 0 ? 0 : 100.0 * row.nanoseconds / total,
            row.launches,
            number(row.bytes, 1e6),
            number(row.bytes, (double) row.nanoseconds),
            number(row.operations, (double) row.nanoseconds),
            row.name));
  }

  /** {@code "-"} for what is not known, or has taken no time that could be measured. */
  private static String number(long value, double unit) {
    return value == UNKNOWN || unit == 0 ? "-" : String.format(Locale.ROOT, "%,.1f", value / unit);
  }
}
