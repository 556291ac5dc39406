package dev.halter.heads;

import dev.halter.generation.Engine;
import dev.halter.generation.Request;
import dev.halter.model.Capture;
import dev.halter.model.Head;
import dev.halter.model.Site;
import dev.halter.patching.Pair;
import dev.halter.pictures.HeatMap;
import dev.halter.pictures.HeatMap.Panel;
import dev.halter.text.VisibleText;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.IntConsumer;

/**
 * Where heads look: the softmax weights of a prompt's last token on named parts of the prompt
 * (operands, operators), over pairs' references, and whole patterns of one prompt to look at.
 */
public final class AttentionPatterns {
  /** The prompt's first token, where heads that look for nothing often look. */
  public static final String FIRST = "first token";

  /** Everything that no span names. */
  public static final String REST = "rest";

  private AttentionPatterns() {}

  /**
   * A head's weight on one part.
   *
   * @param pairs that have the part
   * @param mean over them of the weight summed over the part's tokens
   * @param deviation sample standard deviation of that weight; NaN for one pair
   * @param uniform mean share of the part's tokens among all: what a head that looks everywhere
   *     alike gives it
   */
  public record Weight(
      Head head, String part, int pairs, double mean, double deviation, double uniform) {}

  /** Sums over pairs for one head and part. */
  private static final class Sums {
    private int pairs;
    private double sum;
    private double squares;
    private double uniform;

    void add(double weight, double share) {
      pairs++;
      sum += weight;
      squares += weight * weight;
      uniform += share;
    }

    Weight weight(Head head, String part) {
      double mean = sum / pairs;
      double variance = (squares - pairs * mean * mean) / (pairs - 1);
      return new Weight(head, part, pairs, mean, Math.sqrt(Math.max(0, variance)), uniform / pairs);
    }
  }

  /**
   * The last token's weights on each span of the pairs, on the first token, and on the rest; they
   * add up to 1 where spans do not overlap.
   *
   * @param done hears how many pairs are read
   */
  public static List<Weight> read(
      Engine engine, List<Pair> pairs, List<Head> heads, IntConsumer done) {
    Map<Head, Map<String, Sums>> sums = new LinkedHashMap<>();
    heads.forEach(head -> sums.put(head, new LinkedHashMap<>()));
    // Spans of all pairs first, so that parts come in one order.
    Set<String> parts = new LinkedHashSet<>();
    pairs.forEach(pair -> parts.addAll(pair.spans().keySet()));
    parts.add(FIRST);
    parts.add(REST);
    for (int i = 0; i < pairs.size(); i++) {
      Pair pair = pairs.get(i);
      int length = pair.reference().length;
      Map<Head, float[]> rows = patterns(engine, pair.reference(), length - 1, heads);
      Map<String, Set<Integer>> places = places(pair);
      for (Head head : heads) {
        float[] row = rows.get(head);
        for (String part : parts) {
          Set<Integer> positions = places.get(part);
          if (positions != null) {
            double weight = positions.stream().mapToDouble(at -> row[at]).sum();
            sums.get(head)
                .computeIfAbsent(part, p -> new Sums())
                .add(weight, positions.size() / (double) length);
          }
        }
      }
      done.accept(i + 1);
    }
    List<Weight> weights = new ArrayList<>();
    sums.forEach(
        (head, ofHead) -> ofHead.forEach((part, sum) -> weights.add(sum.weight(head, part))));
    return weights;
  }

  /** Positions of each part of a pair's reference. */
  private static Map<String, Set<Integer>> places(Pair pair) {
    Map<String, Set<Integer>> places = new LinkedHashMap<>();
    Set<Integer> named = new LinkedHashSet<>();
    pair.spans().forEach((name, positions) -> places.put(name, new LinkedHashSet<>(positions)));
    places.values().forEach(named::addAll);
    if (!named.contains(0)) {
      places.put(FIRST, Set.of(0));
      named.add(0);
    }
    Set<Integer> rest = new LinkedHashSet<>();
    for (int position = 0; position < pair.reference().length; position++) {
      if (!named.contains(position)) {
        rest.add(position);
      }
    }
    places.put(REST, rest);
    return places;
  }

  /** Patterns [query, key] of heads over a prompt, of its tokens from one on. */
  private static Map<Head, float[]> patterns(
      Engine engine, int[] prompt, int from, List<Head> heads) {
    ModelConfig config = engine.model().config();
    Set<Site> sites = new LinkedHashSet<>();
    heads.forEach(head -> sites.add(new Site(Site.Kind.PATTERN, head.layer())));
    Capture capture = new Capture(config, sites, prompt.length, from);
    engine.run(Request.of(prompt).withId("pattern").withMaxTokens(0).with(capture)).orThrow();
    Map<Head, float[]> patterns = new LinkedHashMap<>();
    for (Head head : heads) {
      float[] layer = capture.values().get(new Site(Site.Kind.PATTERN, head.layer()));
      float[] pattern = new float[(prompt.length - from) * prompt.length];
      System.arraycopy(layer, head.head() * pattern.length, pattern, 0, pattern.length);
      patterns.put(head, pattern);
    }
    return patterns;
  }

  /**
   * The patterns of heads over one prompt as pictures: a row for each token that looks, a column
   * for each that is looked at.
   *
   * @param pieces text of each token
   */
  public static HeatMap picture(
      Engine engine, int[] prompt, List<String> pieces, List<Head> heads) {
    List<String> names = pieces.stream().map(VisibleText::of).toList();
    List<Panel> panels = new ArrayList<>();
    patterns(engine, prompt, 0, heads)
        .forEach(
            (head, pattern) ->
                panels.add(
                    new Panel(
                        "Head " + head,
                        "query",
                        "key",
                        names,
                        names,
                        percent(pattern, prompt.length))));
    return new HeatMap(
        "Attention of %d heads".formatted(heads.size()),
        List.of(
            String.join("", pieces),
            "Each row shows where its token looks, in % that add up to 100; a token sees itself and"
                + " what comes before it."),
        new HeatMap.Scale(false, "%", 0, 100),
        panels);
  }

  private static double[][] percent(float[] pattern, int length) {
    double[][] rows = new double[length][length];
    for (int from = 0; from < length; from++) {
      for (int to = 0; to < length; to++) {
        rows[from][to] = to > from ? Double.NaN : 100 * pattern[from * length + to];
      }
    }
    return rows;
  }
}
