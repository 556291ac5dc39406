package dev.halter.cli;

/** Ranks for people: 1st, 2nd … In JSON, exports and the library the first is 0. */
public final class Ordinal {
  private Ordinal() {}

  /** The name of the place with {@code rank} others before it. */
  public static String of(int rank) {
    int place = rank + 1;
    boolean teen = place / 10 % 10 == 1;
    String ending =
        switch (teen ? 0 : place % 10) {
          case 1 -> "st";
          case 2 -> "nd";
          case 3 -> "rd";
          default -> "th";
        };
    return place + ending;
  }
}
