package dev.halter.heads;

import dev.halter.generation.Engine;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import dev.halter.model.Capture;
import dev.halter.model.Site;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Activations of texts that show a behaviour and of texts that do not, from a token on. */
public final class ContrastRows {
  /** Their activations are in memory until they are taken over. */
  private static final int TOGETHER = 8;

  private ContrastRows() {}

  /**
   * A text of which tokens are read.
   *
   * @param from the first token that is read
   */
  public record Text(int[] tokens, int from) {

    /** A prompt of which the last token (END) is read. */
    static Text end(int[] prompt) {
      return new Text(prompt, prompt.length - 1);
    }

    /** A prompt that an answer follows, read from the prompt's last token on. */
    static Text answered(int[] prompt, int[] answer) {
      int[] both = Arrays.copyOf(prompt, prompt.length + answer.length);
      System.arraycopy(answer, 0, both, prompt.length, answer.length);
      return new Text(both, prompt.length - 1);
    }
  }

  /** The two sides of a behaviour. */
  public record Sides(List<Text> positive, List<Text> negative) {

    /** Prompts read at their last tokens. */
    public static Sides end(List<int[]> positive, List<int[]> negative) {
      return new Sides(
          positive.stream().map(Text::end).toList(), negative.stream().map(Text::end).toList());
    }

    /**
     * Prompts read from their last tokens on, each negative one with the greedy answer to the
     * positive one at the same place: so that the sides differ in what comes before, not in the
     * words that are read.
     *
     * @param most tokens of an answer
     * @throws IllegalArgumentException if there are not as many of both
     */
    public static Sides answered(
        LanguageModel model, List<int[]> positive, List<int[]> negative, int most) {
      if (positive.size() != negative.size()) {
        throw new IllegalArgumentException(
            ("%,d positive and %,d negative prompts: to read answers there must be as many of both,"
                    + " since each negative one is read with the answer to its positive one")
                .formatted(positive.size(), negative.size()));
      }
      List<Request> requests =
          positive.stream()
              .map(
                  prompt ->
                      Request.of(prompt)
                          .withId("answer")
                          .withMaxTokens(most)
                          .withStopTokens(model.stopTokens()))
              .toList();
      List<Result> answers = model.engine().run(requests);
      List<Text> answeredPositive = new ArrayList<>();
      List<Text> answeredNegative = new ArrayList<>();
      for (int i = 0; i < answers.size(); i++) {
        int[] answer = answers.get(i).orThrow().tokens();
        answeredPositive.add(Text.answered(positive.get(i), answer));
        answeredNegative.add(Text.answered(negative.get(i), answer));
      }
      return new Sides(answeredPositive, answeredNegative);
    }

    /** The same texts, each read from where it and the other side's begin to end alike. */
    public Sides alike() {
      List<Text> alikePositive = new ArrayList<>();
      List<Text> alikeNegative = new ArrayList<>();
      for (int i = 0; i < positive.size(); i++) {
        int[] with = positive.get(i).tokens;
        int[] without = negative.get(i).tokens;
        int same = 0;
        while (same < Math.min(with.length, without.length)
            && with[with.length - 1 - same] == without[without.length - 1 - same]) {
          same++;
        }
        alikePositive.add(new Text(with, with.length - same));
        alikeNegative.add(new Text(without, without.length - same));
      }
      return new Sides(alikePositive, alikeNegative);
    }
  }

  /** For each site a row for each token that is read, text by text. */
  public static Map<Site, List<float[]>> read(
      Engine engine, Collection<Site> sites, List<Text> texts) {
    Map<Site, List<float[]>> rows = new LinkedHashMap<>();
    sites.forEach(site -> rows.put(site, new ArrayList<>()));
    for (int first = 0; first < texts.size(); first += TOGETHER) {
      List<Text> together = texts.subList(first, Math.min(texts.size(), first + TOGETHER));
      List<Request> requests = new ArrayList<>();
      for (Text text : together) {
        Capture capture =
            new Capture(engine.model().config(), sites, text.tokens.length, text.from);
        requests.add(Request.of(text.tokens).withId("activations").withMaxTokens(0).with(capture));
      }
      engine.run(requests).forEach(Result::orThrow);
      for (Request request : requests) {
        request
            .capture()
            .values()
            .forEach(
                (site, values) -> {
                  int width = site.width(engine.model().config());
                  for (int at = 0; at < values.length; at += width) {
                    rows.get(site).add(Arrays.copyOfRange(values, at, at + width));
                  }
                });
      }
    }
    return rows;
  }
}
