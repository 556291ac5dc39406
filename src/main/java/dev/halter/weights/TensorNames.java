package dev.halter.weights;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Predicate;
import java.util.function.ToLongFunction;
import java.util.regex.Pattern;

/**
 * The tensors of a Llama-family checkpoint as the hub names them, and their shapes: nothing else in
 * Halter spells a name. A family whose blocks are made of other parts is a mapping of {@link
 * Block}.
 */
public final class TensorNames {
  /** Embedding table, [vocabulary, d_model]. */
  public static final String EMBEDDING = "model.embed_tokens.weight";

  /** Gain of the norm before the LM head, [d_model]. */
  public static final String FINAL_NORM = "model.norm.weight";

  /** LM head, [vocabulary, d_model]; a model that ties it to the embedding has none. */
  public static final String HEAD = "lm_head.weight";

  /** Buffers that old checkpoints carry though they follow from the config. */
  private static final Pattern FOLLOWS_FROM_CONFIG =
      Pattern.compile("model\\.layers\\.\\d+\\.self_attn\\.rotary_emb\\.inv_freq");

  private TensorNames() {}

  /** The tensor that logits are made with. */
  public static String head(ModelConfig config) {
    return config.tieWordEmbeddings() ? EMBEDDING : HEAD;
  }

  /** Whether a checkpoint may hold a tensor of that name, which nobody needs. */
  static boolean isIgnored(String name) {
    return FOLLOWS_FROM_CONFIG.matcher(name).matches();
  }

  /**
   * Names and shapes (outermost first) of all tensors that a checkpoint of this model must have, in
   * the order of the forward pass.
   */
  public static Map<String, long[]> expected(ModelConfig config) {
    Map<String, long[]> shapes = new LinkedHashMap<>();
    shapes.put(EMBEDDING, new long[] {config.vocabularySize(), config.dModel()});
    for (int layer = 0; layer < config.nLayers(); layer++) {
      for (Block part : Block.values()) {
        if (part.isPartOf(config)) {
          shapes.put(part.weight(layer), part.shape(config));
        }
        if (part.hasBias(config)) {
          shapes.put(part.bias(layer), new long[] {part.outputs.applyAsLong(config)});
        }
      }
    }
    shapes.put(FINAL_NORM, new long[] {config.dModel()});
    if (!config.tieWordEmbeddings()) {
      shapes.put(HEAD, new long[] {config.vocabularySize(), config.dModel()});
    }
    return Collections.unmodifiableMap(shapes);
  }

  /**
   * The parts of a block, in the order of the forward pass. Weights of projections are [outputs,
   * inputs], gains of norms a vector.
   */
  public enum Block {
    INPUT_NORM("input_layernorm", ModelConfig::dModel, config -> true),
    Q("self_attn.q_proj", Block::heads, ModelConfig::dModel, ModelConfig::attentionBias),
    K("self_attn.k_proj", Block::kvHeads, ModelConfig::dModel, ModelConfig::attentionBias),
    V("self_attn.v_proj", Block::kvHeads, ModelConfig::dModel, ModelConfig::attentionBias),
    Q_NORM("self_attn.q_norm", ModelConfig::dHead, ModelConfig::qkNorm),
    K_NORM("self_attn.k_norm", ModelConfig::dHead, ModelConfig::qkNorm),
    O("self_attn.o_proj", ModelConfig::dModel, Block::heads, ModelConfig::attentionOutBias),
    POST_ATTENTION_NORM("post_attention_layernorm", ModelConfig::dModel, config -> true),
    GATE("mlp.gate_proj", ModelConfig::dMlp, ModelConfig::dModel, ModelConfig::mlpBias),
    UP("mlp.up_proj", ModelConfig::dMlp, ModelConfig::dModel, ModelConfig::mlpBias),
    DOWN("mlp.down_proj", ModelConfig::dModel, ModelConfig::dMlp, ModelConfig::mlpBias);

    private final String module;
    private final ToLongFunction<ModelConfig> outputs;
    private final ToLongFunction<ModelConfig> inputs; // null for a vector
    private final Predicate<ModelConfig> present;
    private final Predicate<ModelConfig> biased;

    /** A projection. */
    Block(
        String module,
        ToLongFunction<ModelConfig> outputs,
        ToLongFunction<ModelConfig> inputs,
        Predicate<ModelConfig> biased) {
      this.module = module;
      this.outputs = outputs;
      this.inputs = inputs;
      this.present = config -> true;
      this.biased = biased;
    }

    /** The gain of a norm. */
    Block(String module, ToLongFunction<ModelConfig> length, Predicate<ModelConfig> present) {
      this.module = module;
      this.outputs = length;
      this.inputs = null;
      this.present = present;
      this.biased = config -> false;
    }

    /** The name of its weight, or gain, in a layer. */
    public String weight(int layer) {
      return name(layer) + ".weight";
    }

    /** The name of its bias in a layer. */
    public String bias(int layer) {
      return name(layer) + ".bias";
    }

    /** Whether blocks of this model have it. */
    public boolean isPartOf(ModelConfig config) {
      return present.test(config);
    }

    /** Whether it has a bias in this model. */
    public boolean hasBias(ModelConfig config) {
      return biased.test(config);
    }

    private String name(int layer) {
      return "model.layers." + layer + "." + module;
    }

    private long[] shape(ModelConfig config) {
      long length = outputs.applyAsLong(config);
      return inputs == null ? new long[] {length} : new long[] {length, inputs.applyAsLong(config)};
    }

    private static long heads(ModelConfig config) {
      return (long) config.nHeads() * config.dHead();
    }

    private static long kvHeads(ModelConfig config) {
      return (long) config.nKvHeads() * config.dHead();
    }
  }
}
