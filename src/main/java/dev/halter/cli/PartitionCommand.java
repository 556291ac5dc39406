package dev.halter.cli;

import dev.halter.output.WholeFile;
import dev.halter.sparse.ConceptScores;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

@Command(
    name = "partition",
    description = {
      "Takes the concepts that have most to do with a task out of a table of scores, as a file that",
      "plans name: {\"op\": \"remove_concepts\", …, \"remove\": {\"file\": F, \"top\": N}}."
    })
final class PartitionCommand implements Callable<Integer> {
  @Option(
      names = "--scores",
      paramLabel = "F",
      required = true,
      description = "CSV with columns concept and score, from -1 to 1 (1: most to do with it).")
  Path scores;

  @Option(
      names = "--top",
      paramLabel = "N",
      description = "How many of the highest scores are kept (default: all).")
  Integer top;

  @Option(names = "--task", paramLabel = "T", description = "What the scores are for, kept in F.")
  String task = "";

  @Option(names = "--out", paramLabel = "F", required = true, description = "File to write.")
  Path out;

  @Option(names = "--json", description = "Print JSON.")
  boolean json;

  @Override
  public Integer call() {
    if (top != null && top < 1) {
      throw new WrongUseException("--top is " + top + ", must be 1 or more");
    }
    ConceptScores all = ConceptScores.readCsv(scores, task);
    int count = all.concepts().size();
    int kept = top == null ? count : top;
    if (kept > count) {
      throw new IllegalArgumentException(
          "--top is %,d, but %s has %,d concept%s"
              .formatted(kept, scores, count, count == 1 ? "" : "s"));
    }
    List<Object> concepts = new ArrayList<>();
    for (ConceptScores.Scored scored : all.concepts().subList(0, kept)) {
      concepts.add(Json.object("concept", scored.concept(), "score", scored.score()));
    }
    String text = Json.text(Json.object("task", task, "concepts", concepts)) + "\n";
    WholeFile.write(out, file -> file.write(text));
    if (json) {
      Json.print(Json.object("scored", count, "kept", kept, "out", out.toString()));
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
