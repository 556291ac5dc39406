package dev.halter.cli;

import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** How lines that a page shows of an output are compared with lines that were printed. */
final class OutputLine {
  private static final Pattern NUMBER = Pattern.compile("[-+]?\\d[\\d,]*(\\.\\d+)?(e[-+]\\d+)?");

  /** Numbers that no two runs have in common. */
  private static final Pattern OF_THE_MOMENT =
      Pattern.compile("[\\d.,]+ (s|ms|MB|tokens/s)\\b|CPU \\([^)]*\\)");

  private static final String CUT = "…";

  private OutputLine() {}

  /**
   * Whether a line says what the page has: the same words, and numbers as near as they are printed.
   */
  static boolean says(String shown, String printed) {
    if (!hasTheWords(shown, printed)) {
      return false;
    }
    Matcher numbers = NUMBER.matcher(lasting(shown));
    Matcher others = NUMBER.matcher(lasting(printed));
    while (numbers.find() && others.find()) {
      double number = value(numbers.group());
      double tolerance = Math.max(0.02 * Math.abs(number), 1.5 * lastDigit(numbers.group()));
      if (!(Math.abs(number - value(others.group())) <= tolerance)) {
        return false;
      }
    }
    return true;
  }

  /** Whether a line says what the page has to the digit, but for numbers of the moment. */
  static boolean isSaid(String shown, String printed) {
    String wanted = lasting(shown).replaceAll("\\s+", " ");
    String given = lasting(printed).replaceAll("\\s+", " ");
    return isCut(shown)
        ? given.startsWith(wanted.substring(0, wanted.length() - CUT.length()).strip())
        : given.equals(wanted);
  }

  private static boolean isCut(String shown) {
    return shown.endsWith(CUT);
  }

  private static boolean hasTheWords(String shown, String printed) {
    String wanted = lasting(shown);
    String given = words(lasting(printed));
    return isCut(shown)
        ? given.startsWith(words(wanted.substring(0, wanted.length() - CUT.length())))
        : given.equals(words(wanted));
  }

  private static String lasting(String line) {
    return OF_THE_MOMENT.matcher(line).replaceAll(CUT).strip();
  }

  private static String words(String line) {
    return NUMBER.matcher(line).replaceAll("0").replaceAll("\\s+", " ");
  }

  private static double value(String number) {
    return Double.parseDouble(number.replace(",", ""));
  }

  private static double lastDigit(String number) {
    int point = number.indexOf('.');
    return point < 0 || number.indexOf('e') >= 0 ? 0 : Math.pow(10, point + 1 - number.length());
  }

  /** The numbers of a line that are figures: of at least two digits, without their signs. */
  static Set<String> figures(String line) {
    Set<String> figures = new TreeSet<>();
    Matcher numbers = NUMBER.matcher(line);
    while (numbers.find()) {
      String figure = numbers.group().replaceFirst("^[-+]", "").replaceFirst(",+$", "");
      if (figure.chars().filter(Character::isDigit).count() > 1) {
        figures.add(figure);
      }
    }
    return figures;
  }

  /** What was printed, up to as many words as the page shows where it cuts a line off. */
  static String cutAs(String shown, String printed) {
    String line = printed.stripTrailing();
    if (!isCut(shown)) {
      return line;
    }
    String left = shown.substring(0, shown.length() - CUT.length());
    String gap = left.substring(left.stripTrailing().length());
    Matcher word = Pattern.compile("\\S+").matcher(line);
    int end = 0;
    for (int i = left.strip().split("\\s+").length; i > 0 && word.find(); i--) {
      end = word.end();
    }
    String kept = line.substring(0, end);
    return kept + (kept.endsWith(CUT) ? "" : gap + CUT);
  }

  /**
   * For each line shown the printed one that stands for it, so that all together are as alike as
   * can be in their order; the first of equals, and -1 where none is left.
   */
  static int[] partners(List<String> shown, List<String> printed) {
    int n = shown.size();
    int m = printed.size();
    double[][] best = new double[n + 1][m + 1]; // of the lines from i and from j on
    for (int i = n - 1; i >= 0; i--) {
      for (int j = m - 1; j >= 0; j--) {
        double together = likeness(shown.get(i), printed.get(j)) + best[i + 1][j + 1];
        best[i][j] = Math.max(together, Math.max(best[i][j + 1], best[i + 1][j]));
      }
    }
    int[] partners = new int[n];
    Arrays.fill(partners, -1);
    int i = 0;
    int j = 0;
    while (i < n && j < m) {
      double alike = likeness(shown.get(i), printed.get(j));
      if (alike > 0 && alike + best[i + 1][j + 1] >= best[i][j] - 1e-9) {
        partners[i++] = j++;
      } else if (best[i][j + 1] >= best[i + 1][j]) {
        j++;
      } else {
        i++;
      }
    }
    return partners;
  }

  /** 1 for lines that say the same, less the fewer words they share in their order, 0 of none. */
  private static double likeness(String shown, String printed) {
    if (printed.isBlank()) {
      return 0;
    }
    if (isSaid(shown, printed)) {
      return 1;
    }
    String[] a = lasting(shown).split("\\s+");
    String[] b = lasting(printed).split("\\s+");
    double shape = (double) common(a, b, true) / Math.max(a.length, b.length);
    double words = (double) common(a, b, false) / Math.max(a.length, b.length);
    return 0.01 + 0.6 * shape + 0.3 * words;
  }

  /** The length of the longest common subsequence of words. */
  private static int common(String[] a, String[] b, boolean isOfAnyNumber) {
    int[][] length = new int[a.length + 1][b.length + 1];
    for (int i = 0; i < a.length; i++) {
      for (int j = 0; j < b.length; j++) {
        boolean same = isOfAnyNumber ? words(a[i]).equals(words(b[j])) : a[i].equals(b[j]);
        length[i + 1][j + 1] =
            same ? length[i][j] + 1 : Math.max(length[i][j + 1], length[i + 1][j]);
      }
    }
    return length[a.length][b.length];
  }
}
