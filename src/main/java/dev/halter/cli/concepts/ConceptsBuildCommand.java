package dev.halter.cli.concepts;

import dev.halter.cli.LayerRange;
import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.ProgressBar;
import dev.halter.cli.WrongUseException;
import dev.halter.concepts.DictionaryBuilder;
import dev.halter.concepts.Direction;
import dev.halter.concepts.Stimuli;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.text.Message;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.function.Function;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "build",
    description = {
      "Makes a concept dictionary from texts: a direction for each concept and layer.",
      "In it the texts' last-token activations (hook_resid_post) differ from other concepts'.",
      "Run again after a kill, it goes on where it was."
    })
final class ConceptsBuildCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(
      names = "--stimuli",
      paramLabel = "F",
      required = true,
      description =
          "JSON lines {\"concept\", \"text\"}, or a folder with concept_index.txt and"
              + " concept/<concept>.txt as PaCE-1M has it.")
  Path stimuli;

  @Option(
      names = "--layers",
      paramLabel = "A..B",
      required = true,
      description = "Blocks whose output gets a dictionary, both ends included.")
  String layers;

  @Option(names = "--out", paramLabel = "F", required = true, description = "Dictionary to write.")
  Path out;

  @Option(
      names = "--method",
      paramLabel = "M",
      defaultValue = "pca",
      description =
          "pca: first principal direction of unit differences; mean: difference of means (default:"
              + " ${DEFAULT-VALUE}).")
  String method;

  @Option(
      names = "--template",
      paramLabel = "T",
      description = "Prompt with {concept} and {text} (default: PaCE's).")
  String template = DictionaryBuilder.TEMPLATE;

  @Option(
      names = "--chat",
      description = "Put the prompt through the model's chat template as a user message.")
  boolean chat;

  @Option(
      names = "--limit",
      paramLabel = "N",
      defaultValue = "100",
      description = "Most texts of a concept (default: ${DEFAULT-VALUE}).")
  int limit;

  @Option(
      names = "--others",
      paramLabel = "N",
      defaultValue = "64",
      description = "Texts of other concepts that each is set against (default: ${DEFAULT-VALUE}).")
  int others;

  @Option(
      names = "--seed",
      paramLabel = "N",
      defaultValue = "0",
      description = "Of the choice of those (default: ${DEFAULT-VALUE}).")
  long seed;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    Direction direction = OptionValue.of(Direction.class, "--method", method);
    LayerRange range = LayerRange.parse(layers);
    if (limit < 1 || others < 2) {
      throw new WrongUseException("--limit must be 1 or more, --others 2 or more");
    }
    if (!template.contains("{text}")) {
      throw new WrongUseException("--template has no {text}: every prompt would be the same");
    }
    try (LanguageModel model = options.open()) {
      Stimuli texts = Stimuli.read(stimuli);
      texts.notes().forEach(note -> System.err.println("halter: " + note));
      if (chat || !template.equals("{text}")) {
        texts.markup().ifPresent(this::warn);
      }
      Function<String, int[]> encode =
          chat ? text -> model.encode(List.of(new Message("user", text))) : model::encode;
      DictionaryBuilder builder =
          new DictionaryBuilder(
              model,
              encode,
              texts,
              new DictionaryBuilder.Settings(
                  range.first(), range.last(), direction, template, limit, others, seed));
      int concepts = texts.concepts().size();
      int found;
      try (ProgressBar bar = new ProgressBar("concepts", concepts)) {
        found = builder.build(out, bar::at);
      }
      if (output.isJson()) {
        output.print(
            Json.object(
                "concepts",
                concepts,
                "resumed",
                found,
                "layers",
                new int[] {range.first(), range.last()},
                "out",
                out.toString()));
      } else {
        System.out.printf(
            "%,d concepts of layers %d to %d%s: %s%n",
            concepts,
            range.first(),
            range.last(),
            found > 0 ? " (%,d were done before)".formatted(found) : "",
            out);
      }
      return 0;
    }
  }

  private void warn(String mark) {
    System.err.printf(
        "halter: %s: texts hold chat markup already (%s), which %s puts inside another prompt: to take"
            + " them as they are, give --template '{text}' without --chat%n",
        stimuli, mark, chat ? "--chat" : "the template");
  }
}
