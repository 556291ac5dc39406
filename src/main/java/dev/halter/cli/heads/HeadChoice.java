package dev.halter.cli.heads;

import dev.halter.cli.WrongUseException;
import dev.halter.model.Head;
import dev.halter.patching.EffectsFile;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import picocli.CommandLine.Option;

/** One of both ways to choose heads: by name, or the first of a file of effects. */
public final class HeadChoice {
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

  /**
   * The heads in the order named, or of their effects.
   *
   * @param effects what {@code --effects} names, or null
   */
  public List<Head> of(ModelConfig config, Path effects) {
    if (top == null) {
      if (effects != null) {
        throw new WrongUseException("--effects goes with --top, not with --heads");
      }
      Set<Head> heads = new LinkedHashSet<>();
      for (String name : names) {
        if (!heads.add(Head.parse(name, config))) {
          throw new WrongUseException("--heads names " + name + " twice");
        }
      }
      return List.copyOf(heads);
    }
    if (effects == null) {
      throw new WrongUseException("--top needs --effects with a file of halter heads patch");
    }
    return EffectsFile.read(effects).requireOf(config).top(top);
  }
}
