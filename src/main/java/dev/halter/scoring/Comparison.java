package dev.halter.scoring;

import dev.halter.generation.Alternatives;
import dev.halter.generation.Answer;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.LogProbabilities;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import dev.halter.generation.Sampling;
import dev.halter.steering.SteeringPlan;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Answers to one prompt without a plan and under several, side by side, and what the unsteered
 * model makes of each:
 *
 * {@snippet file="dev/halter/snippets/ScoringSnippetsTest.java" region="comparison"}
 *
 * @param unsteered the answer without a plan
 * @param steered the answers under the plans, in their order
 */
public record Comparison(Item unsteered, List<Item> steered) {
  /**
   * One answer.
   *
   * @param plan under which it was given
   * @param first the likeliest first tokens under that plan
   * @param unsteered natural logs of the probabilities that the model gives the answer's tokens
   *     without a plan
   */
  public record Item(
      SteeringPlan plan, Answer answer, List<Alternatives.Candidate> first, double[] unsteered) {

    /** Natural logs of the probabilities of the answer's tokens under the plan. */
    public double[] own() {
      return Comparison.own(answer.result());
    }

    /** Perplexity of the answer under the unsteered model; NaN of an empty answer. */
    public double perplexity() {
      return Math.exp(-Arrays.stream(unsteered).average().orElse(Double.NaN));
    }

    /** Whether both have the same tokens. */
    public boolean isSameAs(Item other) {
      return Arrays.equals(tokens(), other.tokens());
    }

    /** The first place at which their tokens differ, or -1. */
    public int partsFrom(Item other) {
      return Arrays.mismatch(tokens(), other.tokens());
    }

    private int[] tokens() {
      return answer.result().tokens();
    }
  }

  /** All answers, the one without a plan first. */
  public List<Item> items() {
    List<Item> items = new ArrayList<>();
    items.add(unsteered);
    items.addAll(steered);
    return items;
  }

  /**
   * Answers every prompt without a plan and under each plan, all in one batch, then reads the
   * answers without a plan.
   *
   * @param first how many of the likeliest first tokens to keep
   * @return of each prompt, in their order
   * @throws IllegalArgumentException if a prompt is too long, or a plan cannot act on it
   */
  public static List<Comparison> of(
      LanguageModel model,
      List<int[]> prompts,
      List<SteeringPlan> plans,
      Sampling sampling,
      int maxTokens,
      int first) {
    List<SteeringPlan> all = new ArrayList<>();
    all.add(SteeringPlan.NONE);
    all.addAll(plans);
    List<Request> requests = new ArrayList<>();
    for (int[] prompt : prompts) {
      Request request =
          model
              .request(prompt)
              .withMaxTokens(maxTokens)
              .with(sampling)
              .with(LogProbabilities.top(first));
      all.forEach(plan -> requests.add(request.with(plan)));
    }
    List<Answer> answers = model.generate(requests);
    List<Comparison> comparisons = new ArrayList<>();
    for (int i = 0; i < answers.size(); i += all.size()) {
      Answer plain = answers.get(i);
      List<Item> items = new ArrayList<>();
      for (Answer answer : answers.subList(i, i + all.size())) {
        boolean same = Arrays.equals(answer.result().tokens(), plain.result().tokens());
        items.add(item(answer, same ? own(plain.result()) : unsteered(model, answer.result())));
      }
      comparisons.add(
          new Comparison(items.getFirst(), List.copyOf(items.subList(1, items.size()))));
    }
    return comparisons;
  }

  private static Item item(Answer answer, double[] unsteered) {
    Result result = answer.result();
    return new Item(result.request().plan(), answer, first(result).likeliest(), unsteered);
  }

  /** At the place of the first token, which may be the one that stopped it. */
  private static Alternatives first(Result result) {
    return result.tokens().length > 0
        ? result.alternatives().isEmpty() ? Alternatives.NONE : result.alternatives().getFirst()
        : result.stop() == null ? Alternatives.NONE : result.stop().alternatives();
  }

  private static double[] own(Result result) {
    float[] own = result.logProbabilities();
    double[] wide = new double[own.length];
    Arrays.setAll(wide, i -> own[i]);
    return wide;
  }

  /** What the model without a plan makes of an answer's tokens. */
  private static double[] unsteered(LanguageModel model, Result result) {
    return Logits.logProbabilities(
        model.engine(), result.request().prompt(), result.tokens(), SteeringPlan.NONE);
  }
}
