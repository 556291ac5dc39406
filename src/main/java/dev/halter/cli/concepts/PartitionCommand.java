package dev.halter.cli.concepts;

import dev.halter.cli.EndpointOptions;
import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.ProgressBar;
import dev.halter.cli.WrongUseException;
import dev.halter.concepts.LocalChat;
import dev.halter.concepts.Partition;
import dev.halter.concepts.Partition.Concept;
import dev.halter.files.Json;
import dev.halter.files.WholeFile;
import dev.halter.sparse.ConceptScores;
import dev.halter.sparse.DictionaryFile;
import dev.halter.text.Chat;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "partition",
    description = {
      "Chooses the concepts that have most to do with a task, by a table of scores.",
      "Plans name the file that it writes: {\"op\": \"remove_concepts\", …, \"remove\": {\"file\": F,"
          + " \"top\": N}}.",
      "With --endpoint or --model a language model scores the concepts that the table lacks; run",
      "again after a kill, it goes on where it was. Without either no model is asked."
    })
final class PartitionCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(
      names = "--scores",
      paramLabel = "F",
      required = true,
      description =
          "CSV with columns concept and score, from -1 to 1 (1: most to do with it); with"
              + " --endpoint or --model it is made and gone on with.")
  Path scores;

  @Option(
      names = "--top",
      paramLabel = "N",
      description = "How many of the highest scores are kept (default: all).")
  Integer top;

  @Option(
      names = "--task",
      paramLabel = "T",
      description = "What the scores are for, in words for the model; kept in F.")
  String task;

  @Option(names = "--out", paramLabel = "F", required = true, description = "File to write.")
  Path out;

  @Option(
      names = "--dictionary",
      paramLabel = "D",
      description = "The concepts to score: the names of a dictionary.")
  Path dictionary;

  @Option(
      names = "--concepts",
      paramLabel = "F",
      description =
          "The concepts to score: one a line, a JSON or Python list, or stimuli as of halter"
              + " concepts build, of which the model then sees ten texts a concept.")
  Path concepts;

  @Mixin EndpointOptions endpoint;

  @Option(
      names = "--max-tokens",
      paramLabel = "N",
      defaultValue = "32",
      description = "Most tokens of an answer of --model (default: ${DEFAULT-VALUE}).")
  int maxTokens;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    OptionValue.requireAtLeastOne("--top", top);
    if (!endpoint.isGiven() && options.model == null) {
      if (dictionary != null || concepts != null || endpoint.hasDetails()) {
        throw new WrongUseException("name who scores: --endpoint URL or --model DIR");
      }
      ConceptScores all = ConceptScores.readCsv(scores, task == null ? "" : task);
      return write(all, Json.object());
    }
    if (endpoint.isGiven() && options.model != null) {
      throw new WrongUseException("--endpoint and --model exclude each other");
    }
    if ((dictionary == null) == (concepts == null)) {
      throw new WrongUseException("name the concepts by one of --dictionary D, --concepts F");
    }
    if (task == null) {
      throw new WrongUseException("name what the scores are for, such as --task \"harm\"");
    }
    return ask(dictionary == null ? Partition.read(concepts) : names());
  }

  /** The names of the dictionary, each once. */
  private List<Concept> names() {
    try (DictionaryFile file = DictionaryFile.open(dictionary)) {
      if (file.names().isEmpty()) {
        throw new IllegalArgumentException(
            dictionary + ": has no names of concepts to ask for; give them with --concepts F");
      }
      return new LinkedHashSet<>(file.names())
          .stream().map(name -> new Concept(name, List.of())).toList();
    }
  }

  private int ask(List<Concept> concepts) {
    Partition.Outcome outcome;
    try (Chat model = endpoint.isGiven() ? endpoint.open(32) : local();
        ProgressBar bar = new ProgressBar("concepts", concepts.size())) {
      outcome = new Partition(concepts, task, model).score(scores, bar::at);
    }
    List<Object> unscored = new ArrayList<>();
    for (Map.Entry<String, String> without : outcome.unscored().entrySet()) {
      unscored.add(Json.object("concept", without.getKey(), "problem", without.getValue()));
    }
    String some = "";
    if (!unscored.isEmpty()) {
      Map.Entry<String, String> first = outcome.unscored().entrySet().iterator().next();
      some =
          "%,d of %,d concepts have no score, such as \"%s\": %s"
              .formatted(unscored.size(), concepts.size(), first.getKey(), first.getValue());
    }
    if (outcome.scores().concepts().isEmpty()) {
      throw new IllegalArgumentException(some);
    }
    write(outcome.scores(), Json.object("before", outcome.before(), "unscored", unscored));
    if (!unscored.isEmpty()) {
      System.err.println("halter: " + some);
    }
    return unscored.isEmpty() ? 0 : 1;
  }

  private Chat local() {
    endpoint.refuseDetails();
    OptionValue.requireAtLeastOne("--max-tokens", maxTokens);
    return new LocalChat(options.open(), maxTokens);
  }

  /** Writes the highest scores and prints what was done. */
  private int write(ConceptScores all, Map<String, Object> more) {
    int count = all.concepts().size();
    int kept = top == null ? count : top;
    if (kept > count) {
      throw new IllegalArgumentException(
          "--top is %,d, but %s has %,d concept%s"
              .formatted(kept, scores, count, count == 1 ? "" : "s"));
    }
    List<Object> rows = new ArrayList<>();
    for (ConceptScores.Scored scored : all.concepts().subList(0, kept)) {
      rows.add(Json.object("concept", scored.concept(), "score", scored.score()));
    }
    String text = Json.text(Json.object("task", all.task(), "concepts", rows)) + "\n";
    WholeFile.write(out, file -> file.write(text));
    if (output.isJson()) {
      Map<String, Object> document =
          Json.object("scored", count, "kept", kept, "out", out.toString());
      document.putAll(more);
      output.print(document);
    } else {
      System.out.printf(
          "%,d of %,d concepts, scores %.2f to %.2f: %s%n",
          kept,
          count,
          all.concepts().getFirst().score(),
          all.concepts().get(kept - 1).score(),
          out);
    }
    return 0;
  }
}
