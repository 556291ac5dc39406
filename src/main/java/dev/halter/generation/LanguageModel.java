package dev.halter.generation;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.files.BadFileException;
import dev.halter.model.Capture;
import dev.halter.model.Llama;
import dev.halter.model.MemoryPlan;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
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
import java.util.function.Consumer;
import java.util.function.IntConsumer;
import java.util.stream.Stream;

/**
 * A model folder, ready to run: its text side, its forward pass and an engine over it. This is
 * where to begin:
 *
 * {@snippet file="dev/halter/snippets/GenerationSnippetsTest.java" region="first"}
 *
 * <p><b>Threads.</b> A model and all that comes from it (its engine, activations still being read,
 * its device) belong to one thread at a time. Hand it to another as you would any object that is
 * not synchronized, so that the one sees what the other did; two at once are not found out.
 * Everything blocks until its result stands, and uses the cores or the card fully meanwhile: one
 * model serves many prompts faster as one list of requests than from many threads. Listeners are
 * called in the thread that runs the engine, between two steps, and must not call the model.
 *
 * <p>For requests from many threads put an {@link AsyncEngine} over {@link #engine()}: any thread
 * may submit to it. As long as it is open the model belongs to its thread. Others may use what only
 * reads text and settings, as they may at any time: the tokenizer, {@code encode}, {@code decode},
 * {@code render}, {@code request}, {@link #config()}, {@link #stopTokens()}. To run, check or close
 * the engine meanwhile is an {@link IllegalStateException}; other work on the device is not found
 * out. Records that are no part of the device (plans, edits, maps, answers, captures once read) may
 * be shared freely.
 *
 * <p><b>Who closes what.</b> Close the model, once; that frees its device, its weights and its
 * engine, after which none of them may be used. What it has returned stays: answers, captures and
 * maps are plain Java values.
 *
 * <p><b>Units and shapes.</b> Activations, logits and vectors are f32 on the Java side, row-major,
 * in the shapes that {@link Site.Kind} states. Positions and layers count from 0; negative
 * positions count from the end. Probabilities are from 0 to 1, log probabilities natural.
 *
 * <p><b>Errors.</b> What a caller got wrong, a file or a request, is an {@link
 * IllegalArgumentException} ({@link BadFileException} for a file) of one line that says what, where
 * and what to do; the model stays usable. {@link dev.halter.device.DeviceException} is the
 * device's.
 */
public final class LanguageModel implements AutoCloseable {
  /** Longest sequence where nothing else is asked for: long enough for most, cheap to reserve. */
  private static final int CONTEXT = 8192;

  private final Path folder;
  private final Device device;
  private final MemoryPlan plan;
  private final Llama llama;
  private final Engine engine;
  private final GenerationConfig generation;
  private Tokenizer tokenizer;
  private ChatTemplate template;

  private LanguageModel(
      Path folder,
      Device device,
      MemoryPlan plan,
      Llama llama,
      Engine engine,
      GenerationConfig generation) {
    this.folder = folder;
    this.device = device;
    this.plan = plan;
    this.llama = llama;
    this.engine = engine;
    this.generation = generation;
  }

  /**
   * Opens a model folder on CUDA where it works and else on the CPU, with all else as suits both.
   * Blocks until the weights are there: on the CPU they are mapped, on CUDA copied.
   *
   * @param folder as it comes from the Hugging Face hub
   * @throws BadFileException if the folder holds no model that Halter runs
   * @throws dev.halter.device.DeviceException if the model does not fit
   */
  public static LanguageModel open(Path folder) {
    return at(folder).open();
  }

  /**
   * How to open a model folder: change what should not be as suits it, then {@link Opening#open}.
   */
  public static Opening at(Path folder) {
    return new Opening(folder);
  }

  /**
   * How a model is opened. Each method returns this.
   *
   * {@snippet file="dev/halter/snippets/GenerationSnippetsTest.java" region="open"}
   */
  public static final class Opening {
    private final Path folder;
    private String device = "auto";
    private Device opened;
    private Checkpoint checkpoint;
    private String dtype = "auto";
    private int threads;
    private boolean batchInvariant = true;
    private boolean sharePrefixes = true;
    private int context;
    private int maxBatch;
    private Consumer<String> fallback;
    private IntConsumer progress = layers -> {};

    private Opening(Path folder) {
      this.folder = folder;
    }

    /**
     * {@code "auto"} (the default: CUDA where it works), {@code "cpu"}, {@code "cuda"}, or {@code
     * "cuda:1"}, which is another card than the first.
     */
    public Opening device(String name) {
      this.device = name;
      return this;
    }

    /** A device that is open already; it is closed with the model, or if there is none. */
    public Opening device(Device open) {
      this.opened = open;
      return this;
    }

    /** Type of the activations: {@code "auto"} (the default), {@code "f32"} or {@code "bf16"}. */
    public Opening dtype(String name) {
      this.dtype = name;
      return this;
    }

    /** Threads of the CPU; 0, the default, is one for each core. */
    public Opening threads(int count) {
      this.threads = count;
      return this;
    }

    /** Longest prompt and answer together, in tokens; 0 = the model's own, at most 8,192. */
    public Opening context(int tokens) {
      this.context = tokens;
      return this;
    }

    /** Most sequences that run at once; 0 = as suits the device. */
    public Opening maxBatch(int sequences) {
      this.maxBatch = sequences;
      return this;
    }

    /**
     * Whether the last bits of a result may not depend on its batch, which is the default. Only the
     * CPU has the choice.
     */
    public Opening batchInvariant(boolean invariant) {
      this.batchInvariant = invariant;
      return this;
    }

    /**
     * Whether what prompts have in common at their beginning, tokens and the edits made to them, is
     * read once, and so are the lower layers of a prompt that plans edit above, which is the
     * default. Results are the same to the bit where they do not depend on the batch.
     */
    public Opening sharePrefixes(boolean share) {
      this.sharePrefixes = share;
      return this;
    }

    /**
     * Hears in one line why {@code "auto"} takes the CPU where a driver lets one expect CUDA; left
     * out, that is a warning in the log.
     */
    public Opening onFallback(Consumer<String> listener) {
      this.fallback = listener;
      return this;
    }

    /** Hears the number of layers whose weights are there, up to the model's. */
    public Opening onProgress(IntConsumer listener) {
      this.progress = listener;
      return this;
    }

    /**
     * Weights that are not those of the folder, which then gives all else and need not hold any.
     * Closed with the model, or if there is none.
     */
    public Opening weights(Checkpoint weights) {
      this.checkpoint = weights;
      return this;
    }

    /**
     * Opens the model.
     *
     * @throws IllegalArgumentException for a number or a name that none of these takes
     * @throws BadFileException if the folder's config is not of a model that Halter runs, or the
     *     weights are not of that model
     * @throws dev.halter.device.DeviceException if the device is not there or too small
     */
    public LanguageModel open() {
      Device on = opened;
      Checkpoint weights = checkpoint;
      try {
        for (int number : new int[] {threads, context, maxBatch}) {
          if (number < 0) {
            throw new IllegalArgumentException(
                "threads, context and maxBatch cannot be negative: " + number);
          }
        }
        if (on == null) {
          on =
              fallback == null
                  ? Devices.open(device, threads, batchInvariant)
                  : Devices.open(device, threads, batchInvariant, fallback);
        }
        ModelConfig config = ModelConfig.read(folder); // before a look at the weights
        GenerationConfig generation = GenerationConfig.read(folder, config);
        if (weights == null) {
          weights = Checkpoint.open(folder);
        }
        weights.require(config);
        DType type = activations(dtype, on, weights);
        MemoryPlan plan = plan(on, config, weights, type);
        Llama llama = new Llama(on, config, weights, type, plan.limits(), progress);
        return new LanguageModel(
            folder, on, plan, llama, new Engine(llama, sharePrefixes), generation);
      } catch (RuntimeException | Error e) {
        if (weights != null) {
          weights.close();
        }
        if (on != null) {
          on.close();
        }
        throw e;
      }
    }

    private MemoryPlan plan(Device on, ModelConfig config, Checkpoint weights, DType type) {
      boolean large = on.wantsLargePieces();
      int tokens = Math.min(context == 0 ? CONTEXT : context, config.maxPositions());
      int sequences = maxBatch == 0 ? (large ? 256 : 32) : maxBatch;
      int rows = Math.max(sequences, large ? 2048 : 512);
      return MemoryPlan.of(on, config, weights, type, tokens, sequences, rows, sharePrefixes);
    }
  }

  /** The activations' type that auto, f32 or bf16 stands for. */
  public static DType activations(String name, Device device, Checkpoint checkpoint) {
    return switch (name) {
      case "f32" -> DType.F32;
      case "bf16" -> DType.BF16;
      case "auto" ->
          device.mixesTypes() // f32 costs no copy of weights in bf16
                  || checkpoint.tensor(TensorNames.EMBEDDING).dtype() == DType.F32
              ? DType.F32
              : DType.BF16;
      default ->
          throw new IllegalArgumentException("no dtype '" + name + "': choose auto, f32 or bf16");
    };
  }

  /**
   * Goes on from a plain text, greedily, for up to {@link Request#MAX_TOKENS} tokens. Blocks until
   * the answer is complete.
   *
   * @param plans how to steer, in the order in which they act; none for not at all
   * @throws IllegalArgumentException if the prompt is empty or too long, or a plan cannot act on it
   */
  public Answer generate(String prompt, SteeringPlan... plans) {
    return generate(request(encode(prompt)).with(together(plans)));
  }

  /**
   * Answers one question of a user through the model's chat template, else as {@link #generate}.
   */
  public Answer chat(String question, SteeringPlan... plans) {
    return chat(List.of(new Message("user", question)), plans);
  }

  /** Gives the next turn of a conversation, else as {@link #generate(String, SteeringPlan...)}. */
  public Answer chat(List<Message> messages, SteeringPlan... plans) {
    return generate(request(encode(messages)).with(together(plans)));
  }

  private static SteeringPlan together(SteeringPlan... plans) {
    return Stream.of(plans).reduce(SteeringPlan.NONE, SteeringPlan::then);
  }

  /** Serves one request, with whatever sampling, plan, capture and listener it has. */
  public Answer generate(Request request) {
    return answer(engine.run(request));
  }

  /**
   * Serves requests, as many at once as fit, in the order given.
   *
   * @throws RuntimeException the failure of the first that has one; {@link Engine#run(List)} tells
   *     each result's own
   */
  public List<Answer> generate(List<Request> requests) {
    return engine.run(requests).stream().map(this::answer).toList();
  }

  private Answer answer(Result result) {
    return new Answer(decode(result.orThrow().tokens()), result);
  }

  /**
   * Reads a text's activations, unsteered:
   *
   * {@snippet file="dev/halter/snippets/ModelSnippetsTest.java" region="read"}
   *
   * @param sites TransformerLens names; {@code blocks.*.hook_resid_post} stands for every layer,
   *     {@code all} for everything
   * @throws IllegalArgumentException if the model has no such site, or the text is empty or too
   *     long
   */
  public Capture read(String text, String... sites) {
    return read(request(encode(text)), sites);
  }

  /** Reads the activations of a request's prompt, as its plan steers it; nothing is generated. */
  public Capture read(Request request, String... sites) {
    Capture capture = new Capture(config(), sites(sites), request.prompt().length);
    engine.run(request.withMaxTokens(0).with(capture)).orThrow();
    return capture;
  }

  private Set<Site> sites(String... names) {
    Set<Site> sites = new LinkedHashSet<>();
    for (String name : names) {
      sites.addAll(Site.expand(name, config()));
    }
    return sites;
  }

  /** A request that ends where the model ends its answers: {@link Request#of}. */
  public Request request(int[] prompt) {
    return Request.of(prompt).withStopTokens(stopTokens());
  }

  /** As {@link #request(int[])}, of a plain text. */
  public Request request(String prompt) {
    return request(encode(prompt));
  }

  /** The folder that it was opened from. */
  public Path folder() {
    return folder;
  }

  /** What it runs on; closed with it. */
  public Device device() {
    return device;
  }

  /** What it takes of the device's memory. */
  public MemoryPlan plan() {
    return plan;
  }

  /** Its forward pass. */
  public Llama llama() {
    return llama;
  }

  /** Its sizes, as its folder gives them. */
  public ModelConfig config() {
    return llama.config();
  }

  /** What serves its requests. */
  public Engine engine() {
    return engine;
  }

  /** Whether the folder has a tokenizer; a model without one runs on token ids alone. */
  public boolean hasTokenizer() {
    return Files.exists(folder.resolve("tokenizer.json"));
  }

  /**
   * Its tokenizer, which the first call loads.
   *
   * @throws BadFileException if the folder has none that can be used
   */
  public synchronized Tokenizer tokenizer() {
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
    return template().render(messages, true);
  }

  /**
   * Its chat template, which the first call loads.
   *
   * @throws IllegalArgumentException if the folder has none that can be used
   */
  public synchronized ChatTemplate template() {
    if (template == null) {
      template = ChatTemplate.load(folder);
    }
    return template;
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

  /** Frees the model, its engine and its device. */
  @Override
  public void close() {
    engine.close();
    if (tokenizer != null) {
      tokenizer.close();
    }
    llama.close();
    device.close();
  }
}
