package dev.halter.weights;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.IntStream;

/**
 * What {@code config.json} of a model folder says, with transformers' defaults for what it leaves
 * out; sizes must be there. Whatever would change the arithmetic and is not supported is refused,
 * so a config that can be read is one that can be run.
 *
 * @param family which forward pass it is
 * @param dModel width of the residual stream (d_model, {@code hidden_size})
 * @param nLayers number of blocks
 * @param nHeads query heads per layer
 * @param nKvHeads key and value heads per layer; divides {@code nHeads}
 * @param dHead width of one head (d_head); even
 * @param dMlp number of neurons per MLP (d_mlp, {@code intermediate_size})
 * @param vocabularySize rows of the embedding and of the LM head
 * @param rmsNormEps added to the mean square in every RMSNorm
 * @param rope rotary embedding
 * @param maxPositions longest sequence the model was made for, in tokens
 * @param tieWordEmbeddings whether the LM head is the embedding
 * @param attentionBias whether the q, k and v projections have biases
 * @param attentionOutBias whether the o projection has a bias
 * @param mlpBias whether gate, up and down projection have biases
 * @param qkNorm whether each head's q and k pass an RMSNorm of their own before RoPE (Qwen3)
 * @param slidingWindows per layer the number of positions a token attends to, itself included
 *     (transformers: {@code key > query - window}); 0 = all
 * @param bosTokenId token that begins a sequence, or -1 if the config names none
 * @param eosTokenIds tokens that end a generation; may be empty
 */
public record ModelConfig(
    Family family,
    int dModel,
    int nLayers,
    int nHeads,
    int nKvHeads,
    int dHead,
    int dMlp,
    int vocabularySize,
    double rmsNormEps,
    Rope rope,
    int maxPositions,
    boolean tieWordEmbeddings,
    boolean attentionBias,
    boolean attentionOutBias,
    boolean mlpBias,
    boolean qkNorm,
    List<Integer> slidingWindows,
    int bosTokenId,
    List<Integer> eosTokenIds) {

  /** The supported families; {@code modelType} is theirs in config.json. */
  public enum Family {
    LLAMA("llama", "LlamaForCausalLM", 0, 2048),
    MISTRAL("mistral", "MistralForCausalLM", 8, 131_072),
    QWEN2("qwen2", "Qwen2ForCausalLM", 32, 32_768),
    QWEN3("qwen3", "Qwen3ForCausalLM", 32, 32_768);

    private final String modelType;
    private final String architecture;

    // Where config.json has no such key: transformers' defaults. 0 = as many as there are heads.
    private final int nKvHeads;
    private final int maxPositions;

    Family(String modelType, String architecture, int nKvHeads, int maxPositions) {
      this.modelType = modelType;
      this.architecture = architecture;
      this.nKvHeads = nKvHeads;
      this.maxPositions = maxPositions;
    }

    public String modelType() {
      return modelType;
    }
  }

  // Far above any published model; they keep products of sizes inside 63 bits and a lying config
  // from costing memory.
  private static final int MAX_WIDTH = 1 << 20;
  private static final int MAX_LAYERS = 1024;
  private static final int MAX_HEADS = 4096;
  private static final int MAX_D_HEAD = 1024;
  private static final int MAX_VOCABULARY = 1 << 24;
  private static final int MAX_POSITIONS = 1 << 28;

  public ModelConfig {
    slidingWindows = List.copyOf(slidingWindows);
    eosTokenIds = List.copyOf(eosTokenIds);
  }

  /**
   * Reads {@code config.json} of a model folder.
   *
   * @throws BadFileException if it is missing, damaged, or asks for something unsupported
   */
  public static ModelConfig read(Path folder) {
    if (!Files.isDirectory(folder)) {
      throw new BadFileException(folder, noFolder(folder));
    }
    return of(JsonObject.read(folder.resolve("config.json")));
  }

  /** What to do about a name that is no folder: other programs take other things for a model. */
  private static String noFolder(Path folder) {
    if (folder.toString().endsWith(".gguf")) {
      return "GGUF models are not read: download the original model's folder from the Hugging Face"
          + " hub, with *.safetensors, and name that";
    }
    if (Files.exists(folder)) {
      return "is no folder: name the folder that holds config.json and *.safetensors";
    }
    String hub =
        folder.toString().matches("[\\w-][\\w.-]*/[\\w.-]+")
            ? "; if it is a model of the Hugging Face hub, download it first (hf download %s"
                    .formatted(folder)
                + " --local-dir DIR) and name the folder DIR"
            : "";
    return "no such model folder" + hub;
  }

  /** Reads a config from its bytes; {@code file} is for messages only. */
  static ModelConfig parse(Path file, byte[] json) {
    return of(JsonObject.parse(file, json));
  }

  private static ModelConfig of(JsonObject json) {
    Family family = family(json);
    refuseOtherArithmetic(json);
    int dModel = json.integer("hidden_size", 1, MAX_WIDTH);
    int nLayers = json.integer("num_hidden_layers", 1, MAX_LAYERS);
    int nHeads = json.integer("num_attention_heads", 1, MAX_HEADS);
    int nKvHeads = nKvHeads(json, family, nHeads);
    int maxPositions =
        json.keys().contains("max_position_embeddings")
            ? json.integer("max_position_embeddings", 1, MAX_POSITIONS)
            : family.maxPositions;
    boolean attentionBias =
        switch (family) {
          case LLAMA, QWEN3 -> json.flag("attention_bias", false);
          case MISTRAL -> false;
          case QWEN2 -> true;
        };
    return new ModelConfig(
        family,
        dModel,
        nLayers,
        nHeads,
        nKvHeads,
        dHead(json, family, dModel, nHeads),
        json.integer("intermediate_size", 1, MAX_WIDTH),
        json.integer("vocab_size", 1, MAX_VOCABULARY),
        json.number("rms_norm_eps", 0, 1, 1e-6),
        rope(json, maxPositions),
        maxPositions,
        json.flag("tie_word_embeddings", false),
        attentionBias,
        attentionBias && family != Family.QWEN2,
        family == Family.LLAMA && json.flag("mlp_bias", false),
        family == Family.QWEN3,
        slidingWindows(json, family, nLayers),
        bosTokenId(json, family),
        eosTokenIds(json, family));
  }

  private static Family family(JsonObject json) {
    String type = json.text("model_type");
    for (Family family : Family.values()) {
      if (family.modelType.equals(type)) {
        List<String> architectures = json.texts("architectures");
        if (!architectures.isEmpty()
            && architectures.stream().noneMatch(family.architecture::equalsIgnoreCase)) {
          throw unsupported(
              json,
              "architectures " + architectures,
              "only " + family.architecture + " of " + type);
        }
        return family;
      }
    }
    throw unsupported(json, "model_type \"" + type + "\"", "only llama, mistral, qwen2 and qwen3");
  }

  /** Keys that fine-tunes and relatives of the families use for arithmetic that Halter lacks. */
  private static void refuseOtherArithmetic(JsonObject json) {
    String activation = json.text("hidden_act", "silu");
    if (!activation.equals("silu") && !activation.equals("swish")) {
      throw unsupported(json, "hidden_act \"" + activation + "\"", "only silu");
    }
    if (json.has("quantization_config")) {
      throw unsupported(
          json, "quantization_config", "only unquantized weights in f32, f16 or bf16");
    }
    for (String key : List.of("num_experts", "num_local_experts", "n_routed_experts")) {
      if (json.has(key)) {
        throw unsupported(json, key + " (a mixture of experts)", "only dense MLPs");
      }
    }
    refusePartialRotary(json);
  }

  private static void refusePartialRotary(JsonObject json) {
    if (json.number("partial_rotary_factor", -1e9, 1e9, 1) != 1) {
      throw unsupported(
          json, json.path("partial_rotary_factor"), "only RoPE over the whole head (1.0)");
    }
  }

  /** A key that is null means as many as there are heads; one that is not there, the default. */
  private static int nKvHeads(JsonObject json, Family family, int nHeads) {
    boolean named = json.keys().contains("num_key_value_heads");
    int otherwise = named || family.nKvHeads == 0 ? nHeads : family.nKvHeads;
    int nKvHeads = json.integer("num_key_value_heads", 1, nHeads, otherwise);
    if (nHeads % nKvHeads != 0) {
      throw new BadFileException(
          json.file(),
          "num_attention_heads "
              + nHeads
              + " is no multiple of num_key_value_heads "
              + nKvHeads
              + (named ? "" : ", transformers' default where config.json has none"));
    }
    return nKvHeads;
  }

  private static int dHead(JsonObject json, Family family, int dModel, int nHeads) {
    int dHead;
    if (json.has("head_dim")) {
      dHead = json.integer("head_dim", 2, MAX_D_HEAD);
    } else if (family == Family.QWEN3) {
      dHead = 128; // Qwen3Config's default, whatever hidden_size is
    } else if (dModel % nHeads == 0) {
      dHead = dModel / nHeads;
    } else {
      throw new BadFileException(
          json.file(),
          "hidden_size " + dModel + " is no multiple of num_attention_heads " + nHeads);
    }
    if (dHead % 2 != 0 || dHead > MAX_D_HEAD) {
      throw new BadFileException(
          json.file(), "head_dim is " + dHead + ", but RoPE needs an even one up to " + MAX_D_HEAD);
    }
    return dHead;
  }

  /**
   * Both dialects: {@code rope_theta} and {@code rope_scaling} side by side, or everything in
   * {@code rope_parameters} (transformers 5). Precedence is that of transformers'
   * convert_rope_params_to_dict.
   */
  private static Rope rope(JsonObject json, int maxPositions) {
    String key = json.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
    double theta = json.number("rope_theta", 1, 1e15, 10_000);
    if (!json.has(key)) {
      return new Rope.Default(theta);
    }
    JsonObject settings = json.object(key);
    if (settings.has("full_attention") || settings.has("sliding_attention")) {
      throw unsupported(json, key + " per kind of layer", "only one RoPE for all layers");
    }
    refusePartialRotary(settings);
    theta = settings.number("rope_theta", 1, 1e15, theta);
    String type = settings.text("rope_type", settings.text("type", "default"));
    return switch (type) {
      case "default" -> new Rope.Default(theta);
      case "linear" -> new Rope.Linear(theta, settings.number("factor", 1, 1e9));
      case "llama3" -> llama3(json, settings, theta, maxPositions);
      default ->
          throw unsupported(
              json, "RoPE type \"" + type + "\" in " + key, "only default, linear and llama3");
    };
  }

  private static Rope llama3(JsonObject json, JsonObject settings, double theta, int maxPositions) {
    JsonObject original = json.has("original_max_position_embeddings") ? json : settings;
    var rope =
        new Rope.Llama3(
            theta,
            settings.number("factor", 1, 1e9),
            settings.number("low_freq_factor", 1e-6, 1e9),
            settings.number("high_freq_factor", 1e-6, 1e9),
            original.integer("original_max_position_embeddings", 1, MAX_POSITIONS, maxPositions));
    if (rope.highFreqFactor() <= rope.lowFreqFactor()) {
      throw new BadFileException(
          json.file(), settings.path("high_freq_factor") + " must be larger than low_freq_factor");
    }
    return rope;
  }

  private static List<Integer> slidingWindows(JsonObject json, Family family, int nLayers) {
    List<String> layerTypes = json.texts("layer_types");
    if (!layerTypes.isEmpty() && layerTypes.size() != nLayers) {
      throw new BadFileException(
          json.file(),
          "layer_types has " + layerTypes.size() + " entries for " + nLayers + " layers");
    }
    for (String type : layerTypes) {
      if (!type.equals("full_attention") && !type.equals("sliding_attention")) {
        throw unsupported(
            json, "layer type \"" + type + "\"", "only full_attention and sliding_attention");
      }
    }
    // Mistral slides everywhere unless the window is null; its default holds when the key is
    // absent.
    int window =
        switch (family) {
          case LLAMA -> 0;
          case MISTRAL -> json.keys().contains("sliding_window") ? window(json, 0) : 4096;
          case QWEN2, QWEN3 -> json.flag("use_sliding_window", false) ? window(json, 4096) : 0;
        };
    boolean qwen = family == Family.QWEN2 || family == Family.QWEN3;
    int firstSliding = qwen ? json.integer("max_window_layers", 0, MAX_POSITIONS, 28) : 0;
    List<Integer> windows =
        IntStream.range(0, nLayers)
            .map(
                layer -> {
                  boolean slides =
                      qwen && !layerTypes.isEmpty()
                          ? layerTypes.get(layer).equals("sliding_attention")
                          : layer >= firstSliding;
                  return slides ? window : 0;
                })
            .boxed()
            .toList();
    if (family == Family.LLAMA) {
      return windows; // as in transformers, whose Llama attends to all and reads no layer_types
    }
    for (int layer = 0; layer < layerTypes.size(); layer++) {
      boolean slides = layerTypes.get(layer).equals("sliding_attention");
      if (slides != windows.get(layer) > 0) {
        throw new BadFileException(
            json.file(),
            "layer_types[" + layer + "] contradicts sliding_window and use_sliding_window");
      }
    }
    return windows;
  }

  private static int window(JsonObject json, int whenNull) {
    return json.has("sliding_window") ? json.integer("sliding_window", 1, MAX_POSITIONS) : whenNull;
  }

  private static int bosTokenId(JsonObject json, Family family) {
    int otherwise = family == Family.LLAMA || family == Family.MISTRAL ? 1 : -1;
    return json.keys().contains("bos_token_id")
        ? json.integer("bos_token_id", 0, MAX_VOCABULARY, -1)
        : otherwise;
  }

  private static List<Integer> eosTokenIds(JsonObject json, Family family) {
    boolean defaulted = family == Family.LLAMA || family == Family.MISTRAL;
    return defaulted && !json.keys().contains("eos_token_id")
        ? List.of(2)
        : json.integers("eos_token_id");
  }

  private static BadFileException unsupported(JsonObject json, String what, String only) {
    return new BadFileException(json.file(), what + " is not supported; " + only);
  }

  /** Window of one layer, in positions including the token itself; 0 = attends to all. */
  public int slidingWindow(int layer) {
    return slidingWindows.get(layer);
  }

  /** Radians per position for each pair of a head's dimensions; {@code dHead / 2} of them. */
  public float[] inverseFrequencies() {
    return rope.inverseFrequencies(dHead);
  }
}
