package dev.halter.scoring;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * Runs of words in a text, by which repetition shows without any model. Words are those of the
 * tokenizer of mteval-v13a that sacrebleu has as its default: punctuation stands alone but for
 * points and commas between digits, and case is kept.
 */
public final class Ngrams {
  private static final Pattern MARKS = Pattern.compile("([{-~\\[-` -&(-+:-@/])");
  private static final Pattern AFTER_LETTER = Pattern.compile("([^0-9])([.,])");
  private static final Pattern BEFORE_LETTER = Pattern.compile("([.,])([^0-9])");
  private static final Pattern DASH = Pattern.compile("([0-9])(-)");

  private final List<String> words;

  private Ngrams(List<String> words) {
    this.words = words;
  }

  /** The words of a text. */
  public static Ngrams of(String text) {
    String line =
        text.replace("<skipped>", "")
            .replace("-\n", "")
            .replace('\n', ' ')
            .replace("&quot;", "\"")
            .replace("&amp;", "&")
            .replace("&lt;", "<")
            .replace("&gt;", ">");
    line = MARKS.matcher(" " + line + " ").replaceAll(" $1 ");
    line = AFTER_LETTER.matcher(line).replaceAll("$1 $2 ");
    line = BEFORE_LETTER.matcher(line).replaceAll(" $1 $2");
    line = DASH.matcher(line).replaceAll("$1 $2 ");
    List<String> words = new ArrayList<>(List.of(line.strip().split("\\s+")));
    words.removeIf(String::isEmpty);
    return new Ngrams(words);
  }

  public List<String> words() {
    return words;
  }

  /** How often each run of {@code n} words occurs. */
  public Map<List<String>, Integer> counts(int n) {
    Map<List<String>, Integer> counts = new HashMap<>();
    for (int i = 0; i + n <= words.size(); i++) {
      counts.merge(words.subList(i, i + n), 1, Integer::sum);
    }
    return counts;
  }

  /**
   * Share of the runs of {@code n} words that are different (distinct-n); NaN if there are none.
   */
  public double distinct(int n) {
    int all = words.size() - n + 1;
    return all < 1 ? Double.NaN : (double) counts(n).size() / all;
  }

  /** Entropy in bits of the runs of {@code n} words; 0 if there are none. */
  public double entropy(int n) {
    double all = words.size() - n + 1;
    double bits = 0;
    for (int count : counts(n).values()) {
      bits -= count / all * (Math.log(count / all) / Math.log(2));
    }
    return bits;
  }

  /**
   * The n-gram entropy of ROME, EasyEdit and PaCE (arXiv 2406.04331, "fluency"): half of 2/3 of the
   * entropy of pairs and 4/3 of that of triples, as the code of the first two weighs them. They
   * take NLTK's words, which differ in contractions.
   */
  public double weightedEntropy() {
    return (entropy(2) * 2 / 3 + entropy(3) * 4 / 3) / 2;
  }
}
