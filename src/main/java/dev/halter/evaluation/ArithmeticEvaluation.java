package dev.halter.evaluation;

import dev.halter.generation.LanguageModel;
import dev.halter.heads.AttentionPatterns;
import dev.halter.heads.Knockout;
import dev.halter.heads.Knockout.Accuracy;
import dev.halter.heads.Knockout.Mode;
import dev.halter.heads.Knockout.Setting;
import dev.halter.model.Head;
import dev.halter.model.Llama;
import dev.halter.patching.Effects;
import dev.halter.patching.Effects.Effect;
import dev.halter.patching.Pair;
import dev.halter.patching.PathPatching;
import dev.halter.scoring.Perplexity;
import dev.halter.scoring.Question;
import dev.halter.steering.Reach;
import dev.halter.steering.SteeringPlan;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.ToDoubleFunction;

/**
 * The claim of the arithmetic paper (arXiv 2409.01659) put to a model: few heads, found by path
 * patching, carry its sums; without them it fails at sums, without as many others it does not; and
 * they look at operands and operators. Heads are found with one half of the pairs, and what is
 * reported is of the other half.
 */
public final class ArithmeticEvaluation {
  /** Name of the sums among the kinds of questions. */
  public static final String SUMS = "sums";

  /**
   * What is tried.
   *
   * @param pairs to find heads with, and as many to measure with
   * @param heads numbers of heads to take out
   * @param draws of random heads for each number
   */
  public record Tried(int pairs, List<Integer> heads, Mode mode, int draws, long seed) {}

  /** A head that was found, and its effect on the sums' answers. */
  public record Found(Head head, Effect effect) {}

  /**
   * A model without its first so many heads.
   *
   * @param accuracies on the sums, then on each kind of the other questions
   * @param perplexity of the texts without them; NaN if there are no texts
   * @param randomPerplexity the same without random heads, for each draw
   */
  public record Row(
      List<Head> heads, List<Accuracy> accuracies, double perplexity, double[] randomPerplexity) {}

  /**
   * The table.
   *
   * @param pairs that heads were found with
   * @param measured sums that accuracy is measured on
   * @param keyHeads how many heads lower the logit by more than 5 %, the paper's measure of a key
   *     head
   * @param found the heads that are taken out, those that the answers need most first
   * @param attention where they look
   * @param perplexity of the texts, all heads in place
   */
  public record Report(
      int pairs,
      int measured,
      int keyHeads,
      List<Found> found,
      List<AttentionPatterns.Weight> attention,
      double perplexity,
      List<Row> rows) {}

  private ArithmeticEvaluation() {}

  /**
   * Finds heads, takes them out and measures.
   *
   * @param examples sums to draw pairs from, in their order
   * @param other questions that the heads should not matter for
   * @param texts that perplexity is measured on
   * @param progress hears what is done next
   * @throws IllegalArgumentException if the model answers too few of the examples rightly
   */
  public static Report of(
      LanguageModel model,
      List<Arithmetic.Example> examples,
      Tried tried,
      List<Question> other,
      List<int[]> texts,
      Consumer<String> progress) {
    progress.accept("sums that the model answers");
    Arithmetic.Wanted wanted = new Arithmetic.Wanted(2 * tried.pairs, true, false);
    List<Pair> pairs = Arithmetic.pairs(model, examples, wanted).pairs();
    int half = pairs.size() / 2;
    if (half < 2) {
      throw new IllegalArgumentException(
          "the model answers only %d of %,d sums rightly: too few to find heads with"
              .formatted(pairs.size(), examples.size()));
    }
    List<Pair> finding = pairs.subList(0, half);
    List<Pair> measuring = pairs.subList(half, 2 * half);

    progress.accept("path patching");
    List<Found> order = find(model.llama(), finding);
    int most = tried.heads.stream().mapToInt(Integer::intValue).max().orElse(0);
    if (most > order.size()) {
      throw new IllegalArgumentException(
          "%d heads cannot be taken out: the model has %d".formatted(most, order.size()));
    }
    List<Found> found = order.subList(0, most);
    List<Head> heads = found.stream().map(Found::head).toList();
    long keyHeads = order.stream().filter(head -> head.effect.relative() < -0.05).count();

    progress.accept("attention");
    List<AttentionPatterns.Weight> attention =
        AttentionPatterns.read(model.engine(), measuring, heads, count -> {});

    List<Question> questions = new ArrayList<>();
    measuring.forEach(pair -> questions.add(pair.question(SUMS)));
    questions.addAll(other);
    List<int[]> sources = finding.stream().map(Pair::reference).toList();
    Reach reach = tried.mode == Mode.RESAMPLE ? Reach.ANSWER : Reach.ALL;
    Knockout knockout =
        new Knockout(model.engine(), new Setting(tried.mode, reach, sources, tried.seed));
    ToDoubleFunction<List<Head>> perplexity =
        set -> Perplexity.of(model.engine(), texts, knockout.plan(set, 0));
    List<Row> rows = new ArrayList<>();
    for (int count : tried.heads) {
      progress.accept("without " + count + " heads");
      List<Head> first = heads.subList(0, count);
      rows.add(
          new Row(
              first,
              knockout.run(first, tried.draws, questions, done -> {}),
              perplexity.applyAsDouble(first),
              knockout.randomHeads(first, tried.draws).stream().mapToDouble(perplexity).toArray()));
    }
    double intact = Perplexity.of(model.engine(), texts, SteeringPlan.NONE);
    return new Report(half, half, (int) keyHeads, found, attention, intact, rows);
  }

  /** All heads, those that the answers need most first. */
  static List<Found> find(Llama llama, List<Pair> pairs) {
    Effects effects =
        PathPatching.of(llama, pairs, PathPatching.Variant.RECOMPUTE, false, done -> {});
    List<Found> found = new ArrayList<>();
    for (Head head : Head.all(llama.config())) {
      found.add(new Found(head, effects.of(head)));
    }
    found.sort(Comparator.comparingDouble(head -> head.effect.delta()));
    return found;
  }
}
