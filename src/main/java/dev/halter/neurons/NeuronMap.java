package dev.halter.neurons;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Top;
import dev.halter.files.BadFileException;
import dev.halter.files.Shard;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Llama;
import dev.halter.model.LlamaWeights;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.model.Site;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.Fingerprint;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.Safetensors;
import dev.halter.weights.SafetensorsShards;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import dev.halter.weights.TensorNames.Block;
import dev.halter.weights.TensorView;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.function.IntConsumer;

/**
 * What each MLP neuron of a model says when its weight vector is decoded through the LM head: the
 * tokens with the largest logits and the log-sum-exp over the whole vocabulary.
 *
 * <p>Source: Davies, "Decoding specialised feature neurons in LLMs with the final projection layer"
 * (arXiv 2501.02688), which decodes the rows of up_proj. Whether it applies the final norm first
 * could not be established; {@link Decode} offers the readings. Decoding −w as well is our
 * inference: a neuron's sign is arbitrary relative to its gate.
 *
 * @param tokenIds [L, F, S, K], largest logit first, lowest id on ties
 * @param logits [L, F, S, K]
 * @param logZ [L, F, S], natural log of the sum of exp(logit) over the vocabulary
 * @param weightNorm [L, F], L2 norm of the neuron's weight vector
 */
public record NeuronMap(
    Settings settings, int[] tokenIds, float[] logits, float[] logZ, float[] weightNorm) {

  /** Whose weights: rows of up_proj or gate_proj, columns of down_proj. */
  public enum Projection {
    /** Rows of up_proj: what {@code hook_pre_linear} is made with. */
    UP(Block.UP, Site.Kind.PRE_LINEAR),
    /** Rows of gate_proj: what {@code hook_pre} is made with. */
    GATE(Block.GATE, Site.Kind.PRE),
    /** Columns of down_proj: what {@code hook_post} writes into the residual stream. */
    DOWN(Block.DOWN, Site.Kind.POST);

    private final Block part;
    private final Site.Kind site;

    Projection(Block part, Site.Kind site) {
      this.part = part;
      this.site = site;
    }

    /** Where its neurons are clamped: what the weights that were decoded make. */
    public Site.Kind site() {
      return site;
    }

    /** The name of its tensor in a layer. */
    String tensor(int layer) {
      return part.weight(layer);
    }
  }

  /** What is done to a weight vector w before the LM head W_U. */
  public enum Decode {
    /** W_U w. */
    RAW(0),
    /** W_U w / ‖w‖. */
    UNIT(1),
    /** W_U (γ ∘ w / rms(w)): the final norm with the model's gain and epsilon. */
    NORM(2);

    private final int number;

    Decode(int number) {
      this.number = number;
    }

    /** What the kernels call it by. */
    int number() {
      return number;
    }
  }

  /** Which signs of w are decoded. */
  public enum Sign {
    BOTH(Top.Sign.BOTH, 1, -1),
    PLUS(Top.Sign.PLUS, 1),
    MINUS(Top.Sign.MINUS, -1);

    private final Top.Sign top;
    private final int[] factors;

    Sign(Top.Sign top, int... factors) {
      this.top = top;
      this.factors = factors;
    }

    /** The same for {@link Device#multiplyTop}. */
    Top.Sign top() {
      return top;
    }

    /** The factors of w along the axis S. */
    public int[] factors() {
      return factors.clone();
    }
  }

  /**
   * What a map is of.
   *
   * @param fingerprint of the model, see {@link Fingerprint}
   * @param layers L, of this shard
   * @param neurons F, per layer
   * @param vocabulary tokens of the LM head
   * @param k tokens kept
   * @param shard of the model's layers; a part of them can only be written, for {@code halter
   *     merge}
   */
  public record Settings(
      String fingerprint,
      Projection projection,
      Decode decode,
      Sign sign,
      int layers,
      int neurons,
      int vocabulary,
      int k,
      Shard shard) {

    /** Of all layers. */
    public Settings(
        String fingerprint,
        Projection projection,
        Decode decode,
        Sign sign,
        int layers,
        int neurons,
        int vocabulary,
        int k) {
      this(fingerprint, projection, decode, sign, layers, neurons, vocabulary, k, Shard.WHOLE);
    }
  }

  /** Name of a setting in files and on the command line. */
  public static String name(Enum<?> setting) {
    return setting.name().toLowerCase(Locale.ROOT);
  }

  /** Tokens kept of a neuron and sign where nothing else is said. */
  public static final int KEPT = 10;

  /** Value of the key "format" in a map's metadata. */
  public static final String FORMAT = "halter neuron map";

  private static final String VERSION = "2";

  /** Far above any published vocabulary, and small enough for arrays of that length. */
  private static final int MAX_VOCABULARY = 1 << 24;

  /** Index of the first kept token of a neuron: into {@link #tokenIds} and {@link #logits}. */
  public int at(int layer, int neuron, int sign) {
    return row(layer, neuron, sign) * settings.k;
  }

  /** Index into {@link #logZ}. */
  public int row(int layer, int neuron, int sign) {
    return (layer * settings.neurons + neuron) * settings.sign.factors.length + sign;
  }

  /**
   * What a map is made from.
   *
   * @param checkpoint of {@code config}, checked; stays open as long as the map is being made
   * @param head the LM head on the device
   * @param shard whose layers are mapped
   */
  public record Source(
      Device device, ModelConfig config, Checkpoint checkpoint, Linear head, Shard shard) {

    /** Of all layers. */
    public Source(Device device, ModelConfig config, Checkpoint checkpoint, Linear head) {
      this(device, config, checkpoint, head, Shard.WHOLE);
    }

    int firstLayer() {
      return (int) shard.begin(config.nLayers());
    }

    int layers() {
      return (int) shard.size(config.nLayers());
    }
  }

  /**
   * Maps every up-projection neuron of a model: raw decoding, both signs, {@value #KEPT} tokens
   * each. Blocks until all are mapped.
   *
   * {@snippet file="dev/halter/snippets/NeuronSnippetsTest.java" region="map"}
   */
  public static NeuronMap of(LanguageModel model) {
    return of(model, done -> {});
  }

  /** As above; {@code progress} hears the number of neurons done. */
  public static NeuronMap of(LanguageModel model, IntConsumer progress) {
    return of(model.llama(), Projection.UP, Decode.RAW, Sign.BOTH, KEPT, progress);
  }

  /** An index of the map by token. */
  public NeuronSearch search() {
    return new NeuronSearch(this);
  }

  /** Maps a model that has been loaded. */
  public static NeuronMap of(
      Llama model, Projection projection, Decode decode, Sign sign, int k, IntConsumer progress) {
    LlamaWeights weights = model.weights();
    Source source =
        new Source(model.device(), model.config(), weights.checkpoint(), weights.head());
    return of(source, projection, decode, sign, k, progress);
  }

  /**
   * Maps a model.
   *
   * @param k tokens to keep per neuron and sign, at most {@link Top#MAX_KEPT}
   * @param progress hears the number of neurons done
   */
  public static NeuronMap of(
      Source source, Projection projection, Decode decode, Sign sign, int k, IntConsumer progress) {
    return of(source, projection, decode, sign, k, 0, progress);
  }

  /** As above, with so many neurons at once; 0 = as suits the device. Results are the same. */
  static NeuronMap of(
      Source source,
      Projection projection,
      Decode decode,
      Sign sign,
      int k,
      int rows,
      IntConsumer progress) {
    ModelConfig config = source.config;
    if (source.shard.count() > config.nLayers()) {
      throw new IllegalArgumentException(
          "shard %s: the model has %d layers, so at most as many shards"
              .formatted(source.shard, config.nLayers()));
    }
    int layers = source.layers();
    int neurons = config.dMlp();
    int signs = sign.factors.length;
    int kept = Math.min(k, config.vocabularySize());
    long values = (long) layers * neurons * signs * kept;
    if (values > Integer.MAX_VALUE - 8) {
      throw new IllegalArgumentException(
          "a map of %,d values is too large: keep fewer tokens (--top)".formatted(values));
    }
    String fingerprint = Fingerprint.of(config, source.checkpoint);
    NeuronMap map =
        new NeuronMap(
            new Settings(
                fingerprint,
                projection,
                decode,
                sign,
                layers,
                neurons,
                config.vocabularySize(),
                kept,
                source.shard),
            new int[(int) values],
            new float[(int) values],
            new float[layers * neurons * signs],
            new float[layers * neurons]);
    try (NeuronDecoder decoder = new NeuronDecoder(source, map, rows)) {
      decoder.run(progress);
    }
    return map;
  }

  /**
   * Checks that this is a map of that model.
   *
   * @param file where the map came from, for the message
   * @throws BadFileException if the fingerprints differ
   */
  public void requireOf(ModelConfig config, Checkpoint checkpoint, Path file) {
    if (!settings.fingerprint.equals(Fingerprint.of(config, checkpoint))) {
      throw new BadFileException(
          file,
          "is a map of another model: make one of this model with halter map, or add --any-model");
    }
  }

  /**
   * Checks that a model's tokens are this map's, as far as their number tells.
   *
   * @param file where the map came from, for the message
   * @throws BadFileException if the vocabularies differ in size: tokens would get wrong names
   */
  public void requireVocabulary(ModelConfig config, Path file) {
    if (settings.vocabulary != config.vocabularySize()) {
      throw new BadFileException(
          file,
          "is a map over %,d tokens, but the model has %,d"
              .formatted(settings.vocabulary, config.vocabularySize()));
    }
  }

  /** Writes the map as safetensors; readers see the whole file or none. */
  public void write(Path file) {
    Settings s = settings;
    int signs = s.sign.factors.length;
    Map<String, String> metadata =
        Map.of(
            "format", FORMAT,
            "version", VERSION,
            "fingerprint", s.fingerprint,
            "proj", name(s.projection),
            "decode", name(s.decode),
            "sign", name(s.sign),
            "vocabulary", Integer.toString(s.vocabulary),
            "k", Integer.toString(s.k));
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            file,
            s.shard.isWhole()
                ? metadata
                : SafetensorsShards.metadata(metadata, s.shard, s.fingerprint),
            List.of(
                new TensorSpec("token_ids", DType.I32, s.layers, s.neurons, signs, s.k),
                new TensorSpec("logits", DType.F32, s.layers, s.neurons, signs, s.k),
                new TensorSpec("log_z", DType.F32, s.layers, s.neurons, signs),
                new TensorSpec("weight_norm", DType.F32, s.layers, s.neurons)))) {
      out.write("token_ids", tokenIds);
      out.write("logits", logits);
      out.write("log_z", logZ);
      out.write("weight_norm", weightNorm);
    }
  }

  /**
   * Reads a map.
   *
   * @throws BadFileException if the file is no map, or one of another version
   */
  public static NeuronMap read(Path file) {
    try (Safetensors in = Safetensors.open(file)) {
      Map<String, String> metadata = in.metadata();
      if (!FORMAT.equals(metadata.get("format"))) {
        throw new BadFileException(file, "is no neuron map: make one with halter map");
      }
      if (!VERSION.equals(metadata.get("version"))) {
        throw new BadFileException(
            file, "is a map of version " + metadata.get("version") + ", not " + VERSION);
      }
      if (metadata.containsKey(Shard.KEY)) {
        throw new BadFileException(
            file,
            "is shard %s of a map: join them with halter merge".formatted(metadata.get(Shard.KEY)));
      }
      TensorView ids = in.tensor("token_ids");
      Settings settings = settings(file, metadata, ids);
      NeuronMap map =
          new NeuronMap(
              settings,
              ids.toInts(),
              in.tensor("logits").toFloats(),
              in.tensor("log_z").toFloats(),
              in.tensor("weight_norm").toFloats());
      int neurons = settings.layers * settings.neurons;
      if (map.logits.length != map.tokenIds.length
          || map.logZ.length != neurons * settings.sign.factors.length
          || map.weightNorm.length != neurons) {
        throw new BadFileException(file, "has tensors of sizes that do not belong together");
      }
      for (int id : map.tokenIds) {
        if (id < 0 || id >= settings.vocabulary) {
          throw new BadFileException(
              file, "names token %d of a vocabulary of %d".formatted(id, settings.vocabulary));
        }
      }
      return map;
    }
  }

  private static Settings settings(Path file, Map<String, String> metadata, TensorView ids) {
    try {
      Sign sign = Sign.valueOf(metadata.get("sign").toUpperCase(Locale.ROOT));
      if (ids.rank() != 4 || ids.size(2) != sign.factors.length || ids.elements() == 0) {
        throw new BadFileException(file, "token_ids has not the shape [L, F, S, K]");
      }
      int vocabulary = Integer.parseInt(metadata.get("vocabulary"));
      if (vocabulary < 1 || vocabulary > MAX_VOCABULARY) {
        throw new BadFileException(file, "has a vocabulary of " + vocabulary + " tokens");
      }
      return new Settings(
          Objects.requireNonNull(metadata.get("fingerprint")),
          Projection.valueOf(metadata.get("proj").toUpperCase(Locale.ROOT)),
          Decode.valueOf(metadata.get("decode").toUpperCase(Locale.ROOT)),
          sign,
          Math.toIntExact(ids.size(0)),
          Math.toIntExact(ids.size(1)),
          vocabulary,
          Math.toIntExact(ids.size(3)));
    } catch (NullPointerException | IllegalArgumentException | ArithmeticException e) {
      throw e instanceof BadFileException bad
          ? bad
          : new BadFileException(file, "has damaged metadata", e);
    }
  }
}
