package dev.halter.cli;

import dev.halter.heads.Pair;
import dev.halter.output.WholeFile;
import dev.halter.weights.BadFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import picocli.CommandLine.Command;

@Command(
    name = "pairs",
    description = "Makes pairs of prompts for the other commands: one JSON object a line.",
    subcommands = {
      PairsArithmeticCommand.class,
      PairsXsTestCommand.class,
      PairsTrustLlmCommand.class
    })
final class PairsCommand {
  /**
   * Lines are never written over, as {@code halter batch} writes none over: see {@link ResultFile}.
   */
  static void refuseExisting(Path file) {
    if (file.toFile().isFile() && file.toFile().length() > 0) {
      throw new BadFileException(file, "exists already: remove it, or name another file");
    }
  }

  /** Writes pairs as {@link Pair#read} takes them. */
  static void write(Path file, List<Pair> pairs) {
    if (pairs.isEmpty()) {
      throw new IllegalArgumentException("no pair is left to write to " + file);
    }
    WholeFile.write(
        file,
        lines -> {
          for (Pair pair : pairs) {
            lines.write(Json.text(document(pair)) + "\n");
          }
        });
  }

  private static Map<String, Object> document(Pair pair) {
    Map<String, Object> json =
        Json.object(
            "label", pair.label(),
            "reference_tokens", pair.reference(),
            "counterfactual_tokens", pair.counterfactual(),
            "answer_token", pair.answer());
    pair.foil().ifPresent(foil -> json.put("foil_token", foil));
    if (!pair.spans().isEmpty()) {
      json.put("spans", pair.spans());
    }
    return json;
  }
}
