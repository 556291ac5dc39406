package dev.halter.cli.heads;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.ProgressBar;
import dev.halter.cli.ShardOptions;
import dev.halter.cli.WrongUseException;
import dev.halter.files.Json;
import dev.halter.files.Shard;
import dev.halter.files.WholeFile;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Head;
import dev.halter.patching.Effects;
import dev.halter.patching.Effects.Effect;
import dev.halter.patching.Effects.Sender;
import dev.halter.patching.EffectsFile;
import dev.halter.patching.FirstOrder;
import dev.halter.patching.HeadToHead;
import dev.halter.patching.Pair;
import dev.halter.patching.PathPatching;
import dev.halter.patching.PathPatching.Variant;
import dev.halter.patching.Receiver;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.function.Supplier;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "patch",
    description = {
      "Patches the path from every head and MLP to the answer's logit, over pairs of prompts.",
      "A line of pairs: {\"reference\"|\"reference_tokens\", \"counterfactual\"|"
          + "\"counterfactual_tokens\", \"answer\"|\"answer_token\", \"foil\"|\"foil_token\"?}."
    })
final class PatchCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(names = "--pairs", paramLabel = "F", required = true, description = "Pairs, JSON lines.")
  Path pairs;

  @Option(
      names = "--variant",
      paramLabel = "V",
      defaultValue = "recompute",
      description =
          "recompute: MLPs after the sender are recomputed; frozen: they stay the reference's"
              + " (default: ${DEFAULT-VALUE}).")
  String variant;

  @Option(
      names = "--receivers",
      paramLabel = "L.H.I",
      split = ",",
      description =
          "Patch through the queries, keys or values of these heads instead, as 13.11.q,12.4.k."
              + " The prompts of a pair must have as many tokens.")
  List<String> receivers = List.of();

  @Option(
      names = "--first-order",
      description =
          "Estimate the effects of --variant recompute by their slopes instead, all from one"
              + " backward pass a pair.")
  boolean firstOrder;

  @Option(
      names = "--compare",
      description =
          "With --first-order: measure exactly as well, and say how alike heads and MLPs are"
              + " ordered (Spearman) and how long each took.")
  boolean compare;

  @Option(
      names = "--probability",
      description = "Measure the answer's probability too: about twice the work.")
  boolean probability;

  @Option(names = "--out", paramLabel = "F", description = "Effects to write, as JSON.")
  Path out;

  @Option(
      names = "--top",
      paramLabel = "N",
      defaultValue = "10",
      description = "Senders to show (default: ${DEFAULT-VALUE}).")
  int top;

  @Mixin ShardOptions shards;
  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    Variant how = OptionValue.of(Variant.class, "--variant", variant);
    OptionValue.requireAtLeastOne("--top", top);
    requireFirstOrder(how);
    try (LanguageModel model = options.openForPairs()) {
      ModelConfig config = model.config();
      Shard shard = shards.shard();
      if (compare && !shard.isWhole()) {
        throw new WrongUseException("--compare is over all pairs: leave --shard out");
      }
      List<Pair> all = Pair.read(pairs, model);
      List<Pair> read = shard.of(all);
      if (read.isEmpty()) {
        throw new WrongUseException(
            "--shard %s: %s has %d pairs, so at most as many shards"
                .formatted(shard, pairs, all.size()));
      }
      List<Receiver> through = receivers(config, how);
      Comparison comparison = null;
      Effects effects;
      if (firstOrder) {
        Timed<Effects> estimate = timed(() -> estimate(model, read));
        effects = estimate.of;
        if (compare) {
          Timed<Effects> exact = timed(() -> sweep(model, read, how, through));
          comparison = Comparison.of(estimate, exact);
        }
      } else {
        effects = sweep(model, read, how, through);
      }
      Map<String, Object> document =
          EffectsFile.document(
              name(), effects, through.stream().map(each -> receiver(config, each)).toList());
      if (!shard.isWhole()) {
        String job =
            ShardOptions.job(
                pairs,
                model.llama(),
                name(),
                String.join(",", receivers),
                Boolean.toString(probability));
        EffectsFile.putShard(document, shard, job, effects);
      }
      if (comparison != null) {
        document.put("compare", comparison.json());
      }
      if (out != null) {
        WholeFile.write(out, text -> text.write(Json.text(document) + "\n"));
      }
      if (output.isJson()) {
        output.print(document);
      } else {
        print(config, read.size(), through, effects);
        if (comparison != null) {
          comparison.print();
        }
      }
      return 0;
    }
  }

  private void requireFirstOrder(Variant how) {
    if (compare && !firstOrder) {
      throw new WrongUseException("--compare holds --first-order against the exact sweep: add it");
    }
    if (firstOrder && (how == Variant.FROZEN || !receivers.isEmpty() || probability)) {
      throw new WrongUseException(
          "--first-order estimates logits of --variant recompute: leave %s out"
              .formatted(
                  how == Variant.FROZEN
                      ? "--variant frozen"
                      : probability ? "--probability" : "--receivers"));
    }
  }

  private static Effects estimate(LanguageModel model, List<Pair> pairs) {
    try (ProgressBar bar = new ProgressBar("first order", pairs.size())) {
      return FirstOrder.of(model.llama(), pairs, bar::at);
    }
  }

  private Effects sweep(
      LanguageModel model, List<Pair> pairs, Variant how, List<Receiver> through) {
    try (ProgressBar bar =
        new ProgressBar("patch", (long) pairs.size() * model.config().nLayers())) {
      return through.isEmpty()
          ? PathPatching.of(model.llama(), pairs, how, probability, bar::at)
          : HeadToHead.of(model.llama(), pairs, through, probability, bar::at);
    }
  }

  private String name() {
    return firstOrder ? "first-order" : variant;
  }

  /** Something and how long it took. */
  private record Timed<T>(T of, double seconds) {}

  private static <T> Timed<T> timed(Supplier<T> work) {
    long start = System.nanoTime();
    T result = work.get();
    return new Timed<>(result, (System.nanoTime() - start) / 1e9);
  }

  /** First-order effects beside the exact ones: rank correlations and times. */
  private record Comparison(double heads, double mlps, double seconds, double exactSeconds) {
    static Comparison of(Timed<Effects> estimate, Timed<Effects> exact) {
      return new Comparison(
          estimate.of.rankCorrelationOfHeads(exact.of),
          estimate.of.rankCorrelationOfMlps(exact.of),
          estimate.seconds,
          exact.seconds);
    }

    Map<String, Object> json() {
      return Json.object(
          "heads", heads, "mlps", mlps, "seconds", seconds, "exact_seconds", exactSeconds);
    }

    void print() {
      System.out.printf(
          Locale.ROOT,
          "rank correlation with the exact sweep: heads %.3f, MLPs %.3f; %.2f s, exact %.2f s%n",
          heads,
          mlps,
          seconds,
          exactSeconds);
    }
  }

  private List<Receiver> receivers(ModelConfig config, Variant how) {
    if (!receivers.isEmpty() && how == Variant.FROZEN) {
      throw new WrongUseException("--receivers recomputes MLPs: leave --variant frozen out");
    }
    Set<Receiver> through = new LinkedHashSet<>();
    for (String name : receivers) {
      if (!through.add(Receiver.parse(name, config))) {
        throw new WrongUseException("--receivers names " + name + " twice");
      }
    }
    return List.copyOf(through);
  }

  /** Keys and values belong to a KV group: the heads that read them are named too. */
  private static Map<String, Object> receiver(ModelConfig config, Receiver receiver) {
    return Json.object(
        "receiver", receiver.toString(),
        "site", receiver.site().name(),
        "place", receiver.place(config),
        "read_by", receiver.readers(config).stream().map(Head::toString).toList());
  }

  private void print(ModelConfig config, int count, List<Receiver> through, Effects effects) {
    Effect reference = effects.reference();
    System.out.printf(
        "%,d pairs, %s; mean logit of the answer %.4f%s%s%n",
        count,
        name(),
        effects.referenceLogit(),
        text(", probability %.4f", reference.probability()),
        text(", answer - foil %.4f", reference.logitDifference()));
    for (Receiver receiver : through) {
      System.out.printf(
          "through %s: %s of %s%n", receiver, receiver.site(), receiver.readers(config));
    }
    System.out.printf(
        "%-8s %9s %9s %9s %9s %11s %13s%n",
        "sender", "delta", "+-", "relative", "of means", "probability", "answer - foil");
    for (Sender sender : effects.top(top)) {
      Effect effect = sender.effect();
      System.out.printf(
          Locale.ROOT,
          "%-8s %9.4f %9s %8.2f%% %8.2f%% %11s %13s%n",
          sender.name(),
          effect.delta(),
          text("%.4f", effect.standardError()),
          100 * effect.relative(),
          100 * effect.relativeOfMeans(),
          text("%.4f", effect.probability()),
          text("%.4f", effect.logitDifference()));
    }
  }

  /** Nothing for what was not measured. */
  private static String text(String format, double value) {
    return Double.isNaN(value) ? "" : format.formatted(value);
  }
}
