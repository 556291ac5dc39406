package dev.halter.cli.concepts;

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
import dev.halter.text.Endpoint;
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

  @Option(
      names = "--endpoint",
      paramLabel = "URL",
      description =
          "Who scores: base URL of an OpenAI-compatible interface, like http://localhost:8000/v1.")
  String endpoint;

  @Option(
      names = "--model-name",
      paramLabel = "NAME",
      description = "The model's name at the endpoint.")
  String modelName;

  @Option(
      names = "--api-key-env",
      paramLabel = "NAME",
      defaultValue = "OPENAI_API_KEY",
      description =
          "Environment variable that holds the endpoint's API key (default: ${DEFAULT-VALUE}).")
  String keyVariable;

  @Option(
      names = "--request",
      paramLabel = "JSON",
      description =
          "Members of the requests besides model and messages (default: {\"temperature\": 0,"
              + " \"max_tokens\": 32}).")
  String request;

  @Option(
      names = "--parallel",
      paramLabel = "N",
      defaultValue = "8",
      description = "Requests to the endpoint at once (default: ${DEFAULT-VALUE}).")
  int parallel;

  @Option(
      names = "--retries",
      paramLabel = "N",
      defaultValue = "6",
      description =
          "How often a request that failed is sent again, waiting longer each time (default:"
              + " ${DEFAULT-VALUE}).")
  int retries;

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
    if (endpoint == null && options.model == null) {
      if (dictionary != null || concepts != null || modelName != null || request != null) {
        throw new WrongUseException("name who scores: --endpoint URL or --model DIR");
      }
      ConceptScores all = ConceptScores.readCsv(scores, task == null ? "" : task);
      return write(all, Json.object());
    }
    if (endpoint != null && options.model != null) {
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
    try (Chat model = endpoint == null ? local() : endpoint();
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
    if (modelName != null || request != null) {
      throw new WrongUseException("--model-name and --request go with --endpoint");
    }
    OptionValue.requireAtLeastOne("--max-tokens", maxTokens);
    return new LocalChat(options.open(), maxTokens);
  }

  private Chat endpoint() {
    if (modelName == null) {
      throw new WrongUseException("name the endpoint's model with --model-name NAME");
    }
    if (parallel < 1 || parallel > 1000 || retries < 0) {
      throw new WrongUseException("--parallel must be from 1 to 1000, --retries 0 or more");
    }
    String key = System.getenv(keyVariable);
    if (key == null && !keyVariable.equals("OPENAI_API_KEY")) {
      throw new WrongUseException("--api-key-env: there is no variable " + keyVariable);
    }
    String members = request == null ? "{\"temperature\": 0, \"max_tokens\": 32}" : request;
    return new Endpoint(
        new Endpoint.Settings(
            endpoint, modelName, key == null ? "" : key.strip(), members, parallel, retries));
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
