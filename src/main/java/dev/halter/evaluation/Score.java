package dev.halter.evaluation;

import dev.halter.scoring.Ngrams;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** What is measured of each item of a {@link Task}. */
public sealed interface Score {
  /** The smallest and the largest value that it can have. */
  double low();

  double high();

  /** What the values are called. */
  String unit();

  /** One that is read off a generated answer. */
  sealed interface OfText extends Score {
    /** Its value for an answer, without the space around it. */
    double of(Task.Item item, String answer);
  }

  /** Scores that are 1 or 0. */
  sealed interface Share extends Score {
    @Override
    default double low() {
      return 0;
    }

    @Override
    default double high() {
      return 1;
    }

    @Override
    default String unit() {
      return "share";
    }
  }

  /** Whether a pattern is found in the answer, or is not. */
  record Regex(Pattern pattern, boolean found) implements OfText, Share {
    @Override
    public double of(Task.Item item, String answer) {
      return pattern.matcher(answer).find() == found ? 1 : 0;
    }
  }

  /** How an answer has to meet one of its item's. */
  enum Match {
    EXACT,
    STARTS_WITH,
    CONTAINS,
    /** The number that it ends in is the number that the item's answer ends in. */
    NUMBER
  }

  /** Whether the answer meets one of the item's. */
  record Answers(Match match) implements OfText, Share {
    private static final Pattern NUMBER = Pattern.compile("-?\\d[\\d,]*(\\.\\d+)?");

    @Override
    public double of(Task.Item item, String answer) {
      boolean right =
          item.answers().stream()
              .anyMatch(
                  wanted ->
                      switch (match) {
                        case EXACT -> answer.equals(wanted);
                        case STARTS_WITH -> answer.startsWith(wanted);
                        case CONTAINS -> answer.contains(wanted);
                        case NUMBER -> last(answer) == last(wanted);
                      });
      return right ? 1 : 0;
    }

    /** The last number of a text; NaN if it has none, which is no number's equal. */
    static double last(String text) {
      Matcher number = NUMBER.matcher(text);
      String last = null;
      while (number.find()) {
        last = number.group();
      }
      return last == null ? Double.NaN : Double.parseDouble(last.replace(",", ""));
    }
  }

  /**
   * The sum s of the weights of the answer's words, as s / √(s² + 15): VADER's way to put sums
   * between -1 and 1 (Hutto and Gilbert 2014), for lists of single words such as AFINN's.
   *
   * @param weights by words in small letters
   */
  record Lexicon(Map<String, Double> weights) implements OfText {
    private static final double ALPHA = 15;

    @Override
    public double low() {
      return -1;
    }

    @Override
    public double high() {
      return 1;
    }

    @Override
    public String unit() {
      return "valence";
    }

    @Override
    public double of(Task.Item item, String answer) {
      double sum = 0;
      for (String word : Ngrams.of(answer.toLowerCase(Locale.ROOT)).words()) {
        sum += weights.getOrDefault(word, 0.0);
      }
      return sum / Math.sqrt(sum * sum + ALPHA);
    }
  }

  /**
   * Whether the right one of the item's choices is the likeliest: the sum of the log-probabilities
   * of its tokens after the prompt. Nothing is generated.
   */
  record Choice() implements Share {}

  /** What a judge makes of the answer: {@link Judge}. */
  record Judged() implements Score {
    @Override
    public double low() {
      return 0;
    }

    @Override
    public double high() {
      return 2;
    }

    @Override
    public String unit() {
      return "rating";
    }
  }

  /** Perplexity of the items' texts, each read as the answer to its first token. */
  record Texts() implements Score {
    @Override
    public double low() {
      return 1;
    }

    @Override
    public double high() {
      return Double.POSITIVE_INFINITY;
    }

    @Override
    public String unit() {
      return "perplexity";
    }
  }
}
