package dev.halter.cli.heads;

import dev.halter.cli.WrongUseException;
import dev.halter.model.Head;
import dev.halter.patching.EffectsFile;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Option;

/** The ways to choose heads: by name, or the first of a file of effects. */
public final class HeadOptions {
  @ArgGroup(multiplicity = "1")
  Choice choice;

  /** One of both. */
  static final class Choice {
    @Option(
        names = "--heads",
        paramLabel = "L.H",
        required = true,
        split = ",",
        description = "Heads by name, such as 12.22,13.11.")
    List<String> names;

    @Option(
        names = "--top",
        paramLabel = "N",
        required = true,
        description = "The N heads whose patch lowers the answer's logit most, by --effects.")
    Integer top;
  }

  @Option(
      names = "--effects",
      paramLabel = "F",
      description = "Effects that halter heads patch has written, for --top.")
  Path effects;

  /** The heads in the order named, or of their effects. */
  public List<Head> of(ModelConfig config) {
    if (choice.top == null) {
      if (effects != null) {
        throw new WrongUseException("--effects goes with --top, not with --heads");
      }
      Set<Head> heads = new LinkedHashSet<>();
      for (String name : choice.names) {
        if (!heads.add(Head.parse(name, config))) {
          throw new WrongUseException("--heads names " + name + " twice");
        }
      }
      return List.copyOf(heads);
    }
    if (effects == null) {
      throw new WrongUseException("--top needs --effects with a file of halter heads patch");
    }
    return EffectsFile.read(effects).requireOf(config).top(choice.top);
  }
}
