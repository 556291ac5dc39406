package dev.halter.cli.neurons;

import dev.halter.cli.WrongUseException;
import dev.halter.model.Site;
import dev.halter.weights.ModelConfig;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Names of neurons and their sites on the command line. */
public record NeuronOptions(int layer, int neuron) {
  private static final Pattern NAME = Pattern.compile("(\\d{1,6})\\.(\\d{1,9})");

  /** Reads {@code L.N}. */
  public static NeuronOptions parse(String name) {
    Matcher matcher = NAME.matcher(name);
    if (!matcher.matches()) {
      throw new WrongUseException(
          "no neuron '" + name + "': write it as LAYER.NEURON, for example 3.512");
    }
    return new NeuronOptions(
        Integer.parseInt(matcher.group(1)), Integer.parseInt(matcher.group(2)));
  }

  /** The neuron's site: {@code hook_pre_linear} or {@code blocks.L.mlp.hook_pre_linear}. */
  public Site site(String name, ModelConfig config) {
    String full = name.contains(".") ? name : "blocks." + layer + ".mlp." + name;
    Site site = Site.parse(full, config);
    if (!site.kind().isNeurons() || site.layer() != layer) {
      throw new IllegalArgumentException(
          "site '%s' does not belong to neuron %d.%d: choose hook_pre, hook_pre_linear or hook_post"
              .formatted(name, layer, neuron));
    }
    if (neuron >= config.dMlp()) {
      throw new IllegalArgumentException(
          "no neuron %d.%d: neurons are 0 to %d".formatted(layer, neuron, config.dMlp() - 1));
    }
    return site;
  }

  /** A neurons' site without its layer: {@code hook_pre_linear}. */
  static Site.Kind kind(String name) {
    for (Site.Kind kind : Site.Kind.values()) {
      if (kind.isNeurons() && new Site(kind, 0).name().equals("blocks.0.mlp." + name)) {
        return kind;
      }
    }
    throw new WrongUseException(
        "--site is '" + name + "'; choose one of hook_pre, hook_pre_linear, hook_post");
  }

  /** Refuses an empty list of values to clamp to, and values that are no numbers. */
  static void requireFinite(String option, float[] values) {
    if (values.length == 0) {
      throw new WrongUseException(option + " is empty, must be at least one number");
    }
    for (float value : values) {
      if (!Float.isFinite(value)) {
        throw new WrongUseException(option + " holds " + value + ", must be finite numbers");
      }
    }
  }
}
