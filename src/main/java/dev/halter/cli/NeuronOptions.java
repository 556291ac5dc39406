package dev.halter.cli;

import dev.halter.model.Site;
import dev.halter.weights.ModelConfig;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Names of neurons and their sites on the command line. */
record NeuronOptions(int layer, int neuron) {
  private static final Pattern NAME = Pattern.compile("(\\d{1,6})\\.(\\d{1,9})");

  /** Reads {@code L.N}. */
  static NeuronOptions parse(String name) {
    Matcher matcher = NAME.matcher(name);
    if (!matcher.matches()) {
      throw new WrongUseException(
          "no neuron '" + name + "': write it as LAYER.NEURON, for example 3.512");
    }
    return new NeuronOptions(
        Integer.parseInt(matcher.group(1)), Integer.parseInt(matcher.group(2)));
  }

  /** The neuron's site: {@code hook_pre_linear} or {@code blocks.L.mlp.hook_pre_linear}. */
  Site site(String name, ModelConfig config) {
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
}
