package dev.halter.generation;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.files.BadFileException;
import dev.halter.model.Llama;
import dev.halter.model.MemoryPlan;
import dev.halter.text.ChatTemplate;
import dev.halter.text.Message;
import dev.halter.text.Tokenizer;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.GenerationConfig;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.TensorNames;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;

/** A model folder, ready to run: its text side, its forward pass and an engine over it. */
public final class LanguageModel implements AutoCloseable {
  /** Longest sequence where nothing else is asked for: long enough for most, cheap to reserve. */
  private static final int CONTEXT = 8192;

  /**
   * How to open a model.
   *
   * @param folder as it comes from the Hugging Face hub
   * @param device auto, cpu or cuda
   * @param dtype of the activations: auto, f32 or bf16
   * @param threads of the CPU; 0 = one for each core
   * @param context longest sequence; 0 = the model's own, at most 8,192
   * @param maxBatch sequences at once; 0 = as suits the device
   */
  public record Options(
      Path folder, String device, String dtype, int threads, int context, int maxBatch) {}

  private final Path folder;
  private final Device device;
  private final MemoryPlan plan;
  private final Llama llama;
  private final Engine engine;
  private final GenerationConfig generation;
  private Tokenizer tokenizer;
  private ChatTemplate template;

  private LanguageModel(
      Path folder, Device device, MemoryPlan plan, Llama llama, GenerationConfig generation) {
    this.folder = folder;
    this.device = device;
    this.plan = plan;
    this.llama = llama;
    this.engine = new Engine(llama);
    this.generation = generation;
  }

  /**
   * Opens a model folder.
   *
   * @throws BadFileException if the folder holds no model that Halter runs
   * @throws dev.halter.device.DeviceException if the device is not there or too small
   */
  public static LanguageModel open(Options options) {
    return open(options, Devices.open(options.device, options.threads, true));
  }

  /** Opens a model folder on a device, which is closed with the model, or if there is none. */
  public static LanguageModel open(Options options, Device device) {
    Checkpoint checkpoint;
    try {
      ModelConfig.read(
          options.folder); // what is wrong with it is said before a look at the weights
      checkpoint = Checkpoint.open(options.folder);
    } catch (RuntimeException | Error e) {
      device.close();
      throw e;
    }
    return open(options, device, checkpoint);
  }

  /**
   * Opens a model whose weights are not those of its folder: the folder gives all else, and need
   * not hold any.
   *
   * @param device closed with the model, or if there is none
   * @param checkpoint likewise
   * @throws BadFileException if the folder's config is not of a model that Halter runs, or the
   *     checkpoint is not of that model
   * @throws dev.halter.device.DeviceException if the device is too small
   */
  public static LanguageModel open(Options options, Device device, Checkpoint checkpoint) {
    try {
      Path folder = options.folder;
      ModelConfig config = ModelConfig.read(folder);
      GenerationConfig generation = GenerationConfig.read(folder, config);
      checkpoint.require(config);
      DType type = activations(options.dtype, device, checkpoint);
      MemoryPlan plan = plan(options, device, config, checkpoint, type);
      Llama llama = new Llama(device, config, checkpoint, type, plan.limits());
      return new LanguageModel(folder, device, plan, llama, generation);
    } catch (RuntimeException | Error e) {
      checkpoint.close();
      device.close();
      throw e;
    }
  }

  private static MemoryPlan plan(
      Options options, Device device, ModelConfig config, Checkpoint checkpoint, DType type) {
    boolean cpu = device.sharesHostMemory();
    int context =
        options.context == 0
            ? Math.min(config.maxPositions(), CONTEXT)
            : Math.min(options.context, config.maxPositions());
    int maxBatch = options.maxBatch == 0 ? (cpu ? 32 : 256) : options.maxBatch;
    int rows = Math.max(maxBatch, cpu ? 512 : 2048);
    return MemoryPlan.of(device, config, checkpoint, type, context, maxBatch, rows);
  }

  /** The activations' type that auto, f32 or bf16 stands for. */
  public static DType activations(String name, Device device, Checkpoint checkpoint) {
    return switch (name) {
      case "f32" -> DType.F32;
      case "bf16" -> DType.BF16;
      case "auto" ->
          device.sharesHostMemory() || checkpoint.tensor(TensorNames.EMBEDDING).dtype() == DType.F32
              ? DType.F32
              : DType.BF16;
      default ->
          throw new IllegalArgumentException("no dtype '" + name + "': choose auto, f32 or bf16");
    };
  }

  public Path folder() {
    return folder;
  }

  public Device device() {
    return device;
  }

  public MemoryPlan plan() {
    return plan;
  }

  public Llama llama() {
    return llama;
  }

  public ModelConfig config() {
    return llama.config();
  }

  public Engine engine() {
    return engine;
  }

  /** Whether the folder has a tokenizer; a model without one runs on token ids alone. */
  public boolean hasTokenizer() {
    return Files.exists(folder.resolve("tokenizer.json"));
  }

  public Tokenizer tokenizer() {
    if (tokenizer == null) {
      tokenizer = Tokenizer.load(folder);
    }
    return tokenizer;
  }

  /** Tokens that end an answer. */
  public Set<Integer> stopTokens() {
    return new LinkedHashSet<>(generation.eosTokenIds());
  }

  /** A conversation as the model's chat template renders it, ready for the next answer. */
  public String render(List<Message> messages) {
    if (template == null) {
      template = ChatTemplate.load(folder);
    }
    return template.render(messages, true);
  }

  /** Tokens of a rendered conversation; the template has brought its special tokens itself. */
  public int[] encode(List<Message> messages) {
    return tokenizer().encode(render(messages), false);
  }

  /** Tokens of plain text, with the special tokens that the tokenizer adds. */
  public int[] encode(String prompt) {
    return tokenizer().encode(prompt, true);
  }

  /** Text of generated tokens, without special tokens. */
  public String decode(int[] tokens) {
    return tokenizer().decode(tokens, true);
  }

  /** The tokens that stand for a word: {@link Tokenizer#tokensOf}. */
  public Set<Integer> tokensOf(String word) {
    return tokenizer().tokensOf(word);
  }

  @Override
  public void close() {
    if (tokenizer != null) {
      tokenizer.close();
    }
    engine.close();
    llama.close();
    device.close();
  }
}
