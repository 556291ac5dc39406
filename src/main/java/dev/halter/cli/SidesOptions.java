package dev.halter.cli;

import dev.halter.generation.LanguageModel;
import java.nio.file.Path;
import java.util.List;
import picocli.CommandLine.Option;

/** The options of commands that fit something to prompts of two sides of a behaviour. */
public final class SidesOptions {
  @Option(
      names = "--positive",
      paramLabel = "F",
      required = true,
      description =
          "Prompts that show the behaviour: {\"id\", \"prompt\"|\"messages\"|\"tokens\"} a line.")
  Path positive;

  @Option(
      names = "--negative",
      paramLabel = "F",
      required = true,
      description = "Prompts that do not, likewise.")
  Path negative;

  /** Tokens of the prompts that show it. */
  public List<int[]> positive(LanguageModel model) {
    return InputLine.prompts(positive, model);
  }

  /** Tokens of the prompts that do not. */
  public List<int[]> negative(LanguageModel model) {
    return InputLine.prompts(negative, model);
  }
}
