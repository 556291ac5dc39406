package dev.halter.weights;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * What {@code generation_config.json} of a model folder recommends for sampling.
 *
 * @param eosTokenIds tokens that end a generation: this file's, else the config's
 * @param doSample whether the model's makers recommend sampling; if not, the rest is idle
 * @param temperature divides the logits; positive
 * @param topP share of probability that sampling is cut to, in (0, 1]; 1 = no cut
 * @param topK number of tokens that sampling is cut to; 0 = no cut. (transformers cuts to 50 where
 *     the file is silent; here silence is no cut.)
 */
public record GenerationConfig(
    List<Integer> eosTokenIds, boolean doSample, double temperature, double topP, int topK) {

  public GenerationConfig {
    eosTokenIds = List.copyOf(eosTokenIds);
  }

  /**
   * Reads {@code generation_config.json}; without that file, greedy with the config's eos tokens.
   *
   * @throws BadFileException if the file is there and damaged
   */
  public static GenerationConfig read(Path folder, ModelConfig config) {
    Path file = folder.resolve("generation_config.json");
    return Files.exists(file)
        ? of(JsonObject.read(file), config)
        : new GenerationConfig(config.eosTokenIds(), false, 1, 1, 0);
  }

  private static GenerationConfig of(JsonObject json, ModelConfig config) {
    return new GenerationConfig(
        json.has("eos_token_id") ? json.integers("eos_token_id") : config.eosTokenIds(),
        json.flag("do_sample", false),
        json.number("temperature", Double.MIN_VALUE, 1e6, 1),
        json.number("top_p", Double.MIN_VALUE, 1, 1),
        json.integer("top_k", 0, Integer.MAX_VALUE, 0));
  }
}
