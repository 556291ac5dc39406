package dev.halter.cli.heads;

import dev.halter.model.Head;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.List;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Option;

/** The heads of a command that needs some. */
final class HeadOptions {
  @ArgGroup(multiplicity = "1")
  HeadChoice choice;

  @Option(
      names = "--effects",
      paramLabel = "F",
      description = "Effects that halter heads patch has written, for --top.")
  Path effects;

  /** The heads in the order named, or of their effects. */
  List<Head> of(ModelConfig config) {
    return choice.of(config, effects);
  }
}
