package dev.halter.evaluation;

import dev.halter.scoring.Interval;
import java.util.List;

/**
 * A claim of a paper, put to a model.
 *
 * @param claim in one sentence
 * @param protocol how it is put to the model here
 * @param paper what the paper says, with its numbers and where they stand; numbers that could not
 *     be read in the paper itself say where they are from
 * @param choices what the paper leaves open, and what is taken here
 * @param figures what this model gives; empty where it was not tried
 * @param missing what it takes to try it; empty where it was tried
 */
public record Claim(
    String claim,
    String protocol,
    String paper,
    List<String> choices,
    List<Figure> figures,
    String missing) {

  /** What a figure is counted in. */
  public enum Unit {
    /** A share, 0 to 1. */
    SHARE,
    /** A plain number. */
    NUMBER,
    SECONDS
  }

  /**
   * A number that the model gave.
   *
   * @param name what of
   * @param value with its interval of 95 %; without one the ends are NaN
   */
  public record Figure(String name, Unit unit, Interval value) {
    static Figure share(String name, double share, int n) {
      return new Figure(name, Unit.SHARE, Interval.ofShare(share, n));
    }

    /** Of all there are, such as a model's heads: no sample, and so without an interval. */
    static Figure whole(String name, double share, int n) {
      return new Figure(name, Unit.SHARE, new Interval(share, Double.NaN, Double.NaN, n));
    }

    static Figure number(String name, double value, int n) {
      return new Figure(name, Unit.NUMBER, new Interval(value, Double.NaN, Double.NaN, n));
    }

    static Figure seconds(String name, double value, int n) {
      return new Figure(name, Unit.SECONDS, new Interval(value, Double.NaN, Double.NaN, n));
    }
  }

  /** One that was tried. */
  static Claim tried(
      String claim, String protocol, String paper, List<String> choices, List<Figure> figures) {
    return new Claim(claim, protocol, paper, choices, figures, "");
  }

  /** One that was not. */
  static Claim untried(String claim, String protocol, String paper, String missing) {
    return new Claim(claim, protocol, paper, List.of(), List.of(), missing);
  }
}
