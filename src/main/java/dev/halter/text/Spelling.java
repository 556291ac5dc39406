package dev.halter.text;

import java.util.Collection;
import java.util.Locale;
import java.util.Optional;

/** What else a user may have meant by a name that there is not. */
public final class Spelling {
  /** Longer names are not compared with 40,000 others. */
  private static final int LONGEST_COMPARED = 100;

  private Spelling() {}

  /** The name that the fewest edits make of {@code word}; none if {@code word} is too long. */
  public static Optional<String> nearest(String word, Collection<String> names) {
    String nearest = null;
    int distance = word.length() <= LONGEST_COMPARED ? Integer.MAX_VALUE : 0;
    for (String name : names) {
      if (Math.abs(name.length() - word.length()) < distance) {
        int edits = edits(name, word);
        if (edits < distance) {
          distance = edits;
          nearest = name;
        }
      }
    }
    return Optional.ofNullable(nearest);
  }

  /**
   * The name that was likely meant: the nearest, if a third of its letters at most are wrong, else
   * the one that begins with {@code word}.
   */
  public static Optional<String> meant(String word, Collection<String> names) {
    return nearest(word, names)
        .filter(name -> 3 * edits(name, word) <= name.length())
        .or(() -> names.stream().filter(name -> name.startsWith(word)).findFirst());
  }

  /**
   * Letters to insert, delete, replace or swap with the next, big and small alike, to make one name
   * of another: the distance of optimal string alignment.
   */
  private static int edits(String one, String two) {
    String a = one.toLowerCase(Locale.ROOT);
    String b = two.toLowerCase(Locale.ROOT);
    int[][] edits = new int[a.length() + 1][b.length() + 1];
    for (int i = 0; i <= a.length(); i++) {
      for (int j = 0; j <= b.length(); j++) {
        if (i == 0 || j == 0) {
          edits[i][j] = i + j;
          continue;
        }
        int replaced = edits[i - 1][j - 1] + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1);
        edits[i][j] = Math.min(replaced, 1 + Math.min(edits[i - 1][j], edits[i][j - 1]));
        boolean swapped =
            i > 1
                && j > 1
                && a.charAt(i - 1) == b.charAt(j - 2)
                && a.charAt(i - 2) == b.charAt(j - 1);
        if (swapped) {
          edits[i][j] = Math.min(edits[i][j], edits[i - 2][j - 2] + 1);
        }
      }
    }
    return edits[a.length()][b.length()];
  }
}
