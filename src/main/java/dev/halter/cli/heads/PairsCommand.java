package dev.halter.cli.heads;

import dev.halter.files.BadFileException;
import dev.halter.files.Json;
import dev.halter.files.WholeFile;
import dev.halter.patching.Pair;
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
  /** Lines are never written over, as {@code halter batch} writes none over. */
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
