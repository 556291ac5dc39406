package dev.halter.model;

import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A query head, written {@code layer.head}. */
public record Head(int layer, int head) implements Comparable<Head> {
  private static final Pattern NAME = Pattern.compile("(\\d{1,6})\\.(\\d{1,6})");

  /**
   * Reads {@code 12.22}.
   *
   * @throws IllegalArgumentException if it is no head of the model, naming what the model has
   */
  public static Head parse(String name, ModelConfig config) {
    Matcher parts = NAME.matcher(name.strip());
    if (parts.matches()) {
      Head head = new Head(Integer.parseInt(parts.group(1)), Integer.parseInt(parts.group(2)));
      if (head.isOf(config)) {
        return head;
      }
    }
    throw new IllegalArgumentException(
        "'%s' is no head of this model: write LAYER.HEAD, layers are 0 to %d, heads 0 to %d"
            .formatted(name, config.nLayers() - 1, config.nHeads() - 1));
  }

  /** Whether a model has it. */
  public boolean isOf(ModelConfig config) {
    return layer >= 0 && layer < config.nLayers() && head >= 0 && head < config.nHeads();
  }

  /** Every head of a model, layer by layer. */
  public static List<Head> all(ModelConfig config) {
    List<Head> heads = new ArrayList<>();
    for (int layer = 0; layer < config.nLayers(); layer++) {
      for (int head = 0; head < config.nHeads(); head++) {
        heads.add(new Head(layer, head));
      }
    }
    return heads;
  }

  /** The KV head whose keys and values it reads, shared by n_heads / n_kv_heads query heads. */
  public int kvHead(ModelConfig config) {
    return head / (config.nHeads() / config.nKvHeads());
  }

  @Override
  public int compareTo(Head other) {
    return Comparator.comparingInt(Head::layer).thenComparingInt(Head::head).compare(this, other);
  }

  @Override
  public String toString() {
    return layer + "." + head;
  }
}
