package dev.halter.cli;

import dev.halter.generation.Answer;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.RequestJson;
import dev.halter.generation.ResultJson;
import dev.halter.generation.Sampling;
import dev.halter.steering.SteeringPlan;
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
  @Mixin ModelOptions options;
  @Mixin SamplingOptions sampling;
  @Mixin EndingOptions ending;
  @Mixin LogProbabilityOptions logprobs;

  @ArgGroup(multiplicity = "1")
  PromptOptions prompt;

  @Option(names = "--plan", paramLabel = "F", description = "Steering plan; several act in order.")
  List<Path> plans = new ArrayList<>();

  @Option(
      names = "--max-tokens",
      paramLabel = "N",
      defaultValue = "" + Request.MAX_TOKENS,
      description = "Most tokens to generate (default: ${DEFAULT-VALUE}).")
  int maxTokens;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    if (maxTokens < 0) {
      throw new WrongUseException("--max-tokens is " + maxTokens + ", must be 0 or more");
    }
    Sampling sampling = this.sampling.sampling();
    ending.check();
    RequestJson.Told told = logprobs.told();
    if ((told.isAny() || told.wanted().prompt() >= 0) && !output.isJson()) {
      throw new WrongUseException("log-probabilities are for --json");
    }
    try (LanguageModel model = options.open(1)) {
      SteeringPlan plan = SteeringPlan.readAll(plans, model.config());
      StreamedAnswer print = new StreamedAnswer(model);
      Request request =
          model
              .request(prompt.tokens(model))
              .withMaxTokens(maxTokens)
              .with(sampling)
              .with(plan)
              .with(told.wanted())
              .with(output.isJson() ? null : print);
      Answer answer = model.generate(request.withEnding(ending.minTokens, ending.ignoreEos));
      if (output.isJson()) {
        output.print(ResultJson.of(answer.result(), answer.text(), told.isAny()));
        return 0;
      }
      print.end();
      ReportLines.of(answer.report()).forEach(System.err::println);
      return 0;
    }
  }
}
