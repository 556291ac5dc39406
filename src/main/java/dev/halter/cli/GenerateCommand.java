package dev.halter.cli;

import dev.halter.generation.Answer;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.Sampling;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringReport;
import dev.halter.text.StreamingDecoder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(name = "generate", description = "Answers one prompt, steered by plans if there are any.")
final class GenerateCommand implements Callable<Integer> {
  private static final int MOST_NAMED = 8;

  @Mixin ModelOptions options;
  @Mixin SamplingOptions sampling;

  @ArgGroup(multiplicity = "1")
  PromptOptions prompt;

  @Option(names = "--plan", paramLabel = "F", description = "Steering plan; several act in order.")
  List<Path> plans = new ArrayList<>();

  @Option(
      names = "--max-tokens",
      paramLabel = "N",
      defaultValue = "256",
      description = "Most tokens to generate (default: ${DEFAULT-VALUE}).")
  int maxTokens;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    if (maxTokens < 0) {
      throw new WrongUseException("--max-tokens is " + maxTokens + ", must be 0 or more");
    }
    Sampling sampling = this.sampling.sampling();
    if (this.sampling.logprobs >= 0 && !output.isJson()) {
      throw new WrongUseException("--logprobs is for --json");
    }
    try (LanguageModel model = options.open(1)) {
      SteeringPlan plan = SteeringPlan.readAll(plans, model.config());
      StreamingDecoder decoder = new StreamingDecoder(model.tokenizer(), true);
      Request.Listener print =
          (token, logProbability, logits) -> {
            if (!model.stopTokens().contains(token)) {
              System.out.print(decoder.next(token));
              System.out.flush();
            }
          };
      Request.Listener listener =
          !output.isJson()
              ? print
              : this.sampling.logprobs < 0 ? null : new LogProbabilities(this.sampling.logprobs);
      Answer answer =
          model.generate(
              model
                  .request(prompt.tokens(model))
                  .withMaxTokens(maxTokens)
                  .with(sampling)
                  .with(plan)
                  .with(listener));
      if (output.isJson()) {
        output.print(ResultJson.of(answer.result(), answer.text()));
        return 0;
      }
      System.out.println(decoder.finish());
      for (SteeringReport.Entry entry : answer.report().interventions()) {
        System.err.printf(
            "steered %s at %s: %d tokens, mean change %.3g%s%n",
            entry.op(), entry.site(), entry.tokens(), entry.meanChange(), removed(entry));
      }
      answer.report().notes().forEach(note -> System.err.println("note: " + note));
      return 0;
    }
  }

  /** The atoms that a removal took out, those of most tokens first. */
  private static String removed(SteeringReport.Entry entry) {
    if (entry.concepts() == null) {
      return "";
    }
    List<SteeringReport.Removed> atoms = entry.concepts().removed();
    String named =
        String.join(
            ", ",
            atoms.stream()
                .limit(MOST_NAMED)
                .map(
                    atom ->
                        "%s (%d of %d codes, mean coefficient %.3g)"
                            .formatted(
                                atom.name(),
                                atom.tokens(),
                                entry.concepts().solved(),
                                atom.meanCoefficient()))
                .toList());
    return "; removed "
        + (atoms.isEmpty() ? "no atom" : named)
        + (atoms.size() > MOST_NAMED ? " and %,d more".formatted(atoms.size() - MOST_NAMED) : "");
  }
}
