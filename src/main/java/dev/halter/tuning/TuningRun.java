package dev.halter.tuning;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Matrix;
import dev.halter.device.PlanningDevice;
import dev.halter.device.Scope;
import dev.halter.device.Struct;
import dev.halter.model.Head;
import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import dev.halter.model.LlamaWeights.Layer;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.model.MemoryPlan;
import dev.halter.steering.HeadControl;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.ModelCopy;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/**
 * Fine-tuning of a {@link Selection}: AdamW on its slices, by the loss of completions. All other
 * weights stay, and neither have gradients nor a part in the optimiser. The same model, examples,
 * setting and device give the same bits.
 */
public final class TuningRun implements AutoCloseable {
  /**
   * How to tune.
   *
   * @param learningRate the highest
   * @param batchSize examples of a step
   * @param steps of the run
   * @param warmupRatio share of the steps in which the learning rate rises
   * @param weightDecay of the tuned slices
   * @param maxGradNorm what the gradient's norm is cut to; 0 for not at all
   * @param scaleHeads whether gradients of heads are multiplied by n_heads / tuned heads of their
   *     layer (Zhang et al. 2409.01659, algorithm 2)
   * @param passTokens most tokens at once through the model, if no example is longer; 0 = as suits
   *     the device. A step with more has several passes, to the same gradients.
   * @param seed of the examples' order
   * @param activations f32 or bf16: of the forward pass, and of the gradients of what it has in
   *     that type
   */
  public record Setting(
      double learningRate,
      int batchSize,
      int steps,
      RateSchedule schedule,
      double warmupRatio,
      double weightDecay,
      double maxGradNorm,
      boolean scaleHeads,
      int passTokens,
      long seed,
      DType activations) {

    /** With activations in f32. */
    public Setting(
        double learningRate,
        int batchSize,
        int steps,
        RateSchedule schedule,
        double warmupRatio,
        double weightDecay,
        double maxGradNorm,
        boolean scaleHeads,
        int passTokens,
        long seed) {
      this(
          learningRate,
          batchSize,
          steps,
          schedule,
          warmupRatio,
          weightDecay,
          maxGradNorm,
          scaleHeads,
          passTokens,
          seed,
          DType.F32);
    }

    /** The same with activations of another type. */
    public Setting in(DType type) {
      return new Setting(
          learningRate,
          batchSize,
          steps,
          schedule,
          warmupRatio,
          weightDecay,
          maxGradNorm,
          scaleHeads,
          passTokens,
          seed,
          type);
    }
  }

  /**
   * A step that has been made.
   *
   * @param step from 1
   * @param loss mean over the completions' tokens of its examples, in nats, before its update
   * @param gradNorm before it is cut
   * @param tokens of its completions
   * @param rows tokens that went through the model
   */
  public record Step(
      int step, double loss, double gradNorm, double learningRate, int tokens, int rows) {}

  /**
   * How memory is used. What comes out does not depend on it.
   *
   * @param recomputed layers, from the lowest tuned one on, that keep only their input, the
   *     backward pass making the rest again; null for as few as the device's memory takes
   * @param prefixBytes that the examples' residual streams at the lowest tuned layer may take, to
   *     be made once and not in every epoch; 0 for none. The bits are the same where a row's do not
   *     depend on its batch: on the CPU, but for oneDNN's products.
   */
  public record Means(Integer recomputed, long prefixBytes) {
    public static final Means AUTO = new Means(null, 0);
  }

  private final Scope scope;
  private final Llama model;
  private final Path folder;
  private final Selection selection;
  private final TuningData data;
  private final TuningData heldOut;
  private final Setting setting;
  private final Means means;
  private final TuningMemory memory;
  private final BackwardPass pass;
  private final Map<Tuned, AdamW> tuned;
  private final List<Step> made = new ArrayList<>();

  /** As below, with memory used as there is some. */
  public TuningRun(
      Device device,
      Path folder,
      Selection selection,
      TuningData data,
      TuningData heldOut,
      Setting setting) {
    this(device, folder, selection, data, heldOut, setting, Means.AUTO);
  }

  /**
   * Loads a model for tuning.
   *
   * @param device stays open
   * @param folder of the model
   * @param data one text at least
   * @param heldOut for {@link #evaluate}, or null
   * @throws DeviceException if it does not fit, naming what would help
   */
  public TuningRun(
      Device device,
      Path folder,
      Selection selection,
      TuningData data,
      TuningData heldOut,
      Setting setting,
      Means means) {
    this(
        device,
        folder,
        limits ->
            Llama.load(folder, device, setting.activations, limits, selection.tensors()::contains),
        selection,
        data,
        heldOut,
        setting,
        means);
  }

  /** As above, with a model from elsewhere; without a folder nothing can be written. */
  TuningRun(
      Device device,
      Path folder,
      Function<Llama.Limits, Llama> model,
      Selection selection,
      TuningData data,
      TuningData heldOut,
      Setting setting,
      Means means) {
    if (means.prefixBytes > 0 && selection.lowestLayer() == 0) {
      throw new IllegalArgumentException(
          "--cache-prefix keeps what comes into the lowest tuned layer, which is the first one here:"
              + " leave it out");
    }
    this.means = means;
    this.folder = folder;
    this.selection = selection;
    this.data = data;
    this.heldOut = heldOut;
    this.setting = setting;
    this.scope = device.scope();
    try {
      this.model = scope.add(model.apply(limits(device, data, heldOut, setting)));
      this.memory = plan();
      Parts parts = parts(scope, memory.recomputed());
      this.pass = parts.pass;
      this.tuned = parts.tuned;
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
  }

  private static Llama.Limits limits(
      Device device, TuningData data, TuningData heldOut, Setting setting) {
    List<Integer> lengths =
        Stream.of(data, heldOut)
            .filter(Objects::nonNull)
            .flatMap(texts -> texts.examples().stream().map(Example::rows))
            .sorted(Collections.reverseOrder())
            .toList();
    int longest = lengths.getFirst();
    long most = lengths.stream().limit(setting.batchSize).mapToLong(rows -> rows).sum();
    int suits = device.wantsLargePieces() ? 8192 : 2048;
    int pass = setting.passTokens == 0 ? suits : setting.passTokens;
    int rows = Math.max(longest, (int) Math.min(most, pass));
    int sequences = Math.min(setting.batchSize, rows);
    return new Llama.Limits(rows, 1, sequences, KvCache.pagesFor(rows) + sequences, longest);
  }

  /** All that a run has beside the model. */
  private record Parts(PrefixCache prefixes, BackwardPass pass, Map<Tuned, AdamW> tuned) {}

  private Parts parts(Scope to, int recomputed) {
    boolean comesAgain = setting.steps > Math.ceilDiv(data.size(), setting.batchSize);
    PrefixCache prefixes =
        means.prefixBytes > 0 && comesAgain
            ? new PrefixCache(to, data.examples(), model.config().dModel(), means.prefixBytes)
            : null;
    BackwardPass gradients = new BackwardPass(to, model, selection, recomputed, prefixes);
    Map<Tuned, AdamW> all = new LinkedHashMap<>();
    for (Tuned each : selection.all()) {
      Matrix weight =
          switch (each) {
            case Slice slice -> weight(slice);
            case HeadVectors vectors ->
                new Matrix(gradients.values(vectors), DType.F32, vectors.columns());
          };
      Buffer gradient = gradients.gradient(each);
      all.put(each, new AdamW(to, weight, each.rows(), each.columns(), gradient));
    }
    return new Parts(prefixes, gradients, all);
  }

  /** Makes all parts without their memory, to see what they take. */
  private TuningMemory plan() {
    Device device = model.device();
    ModelConfig config = model.config();
    MemoryPlan forward =
        MemoryPlan.of(
            device, config, model.weights().checkpoint(), model.type(), model.limits(), false);
    int lowest = selection.lowestLayer();
    int layers = config.nLayers() - lowest;
    // Where the weights are the mapped files, they are not in memory yet.
    long room =
        MemoryPlan.usable(device.memory().free())
            - (device.sharesHostMemory() ? forward.weights() : 0);
    int recomputed =
        means.recomputed != null
            ? means.recomputed
            : TuningMemory.fewest(layers, count -> planned(forward, count).added(), room);
    if (recomputed > layers) {
      throw new IllegalArgumentException(
          "--recompute is %d, but only %d layers have gradients: those from %d on"
              .formatted(recomputed, layers, lowest));
    }
    TuningMemory plan = planned(forward, recomputed < 0 ? layers : recomputed);
    if (plan.added() > room) {
      throw new DeviceException(
          "tuning needs %s beside the model, and there is room for %s: %schoose a smaller --pass-tokens than %,d, or fewer heads or MLPs"
              .formatted(
                  MemoryPlan.gib(plan.added()),
                  MemoryPlan.gib(Math.max(0, room)),
                  plan.prefixes() > 0 ? "lower --cache-prefix, " : "",
                  model.limits().rows()));
    }
    return plan;
  }

  private TuningMemory planned(MemoryPlan forward, int recomputed) {
    PlanningDevice device = new PlanningDevice(model.device());
    try (Scope nowhere = device.scope()) {
      Parts parts = parts(nowhere, recomputed);
      long kept = parts.pass.keptBytes();
      long learnt = 16 * selection.parameters(); // in f32 gradient, master copy, two moments
      long prefixes = parts.prefixes == null ? 0 : parts.prefixes.bytes();
      return new TuningMemory(
          forward,
          kept,
          learnt,
          prefixes,
          device.bytes() - kept - learnt - prefixes,
          selection.lowestLayer(),
          recomputed,
          model.config().nLayers());
    }
  }

  /** A slice where it lies in its matrix. */
  private Matrix weight(Slice slice) {
    ModelConfig config = model.config();
    Layer layer = model.weights().layer(slice.layer());
    int heads = config.nHeads() * config.dHead();
    int kvHeads = config.nKvHeads() * config.dHead();
    Matrix rows =
        switch (slice.part()) {
          case Q -> rowsFrom(layer.qkv(), slice.row());
          case K -> rowsFrom(layer.qkv(), heads + slice.row());
          case V -> rowsFrom(layer.qkv(), heads + kvHeads + slice.row());
          case O -> layer.o().matrix();
          case GATE -> rowsFrom(layer.gateUp(), slice.row());
          case UP -> rowsFrom(layer.gateUp(), config.dMlp() + slice.row());
          case DOWN -> layer.down().matrix();
          case INPUT_NORM, Q_NORM, K_NORM, POST_ATTENTION_NORM ->
              throw new IllegalArgumentException(slice + " is no part of a projection");
        };
    return rows.columnsFrom(slice.column());
  }

  /** From a row on of matrices one above another. */
  private static Matrix rowsFrom(List<Linear> parts, int row) {
    int before = 0;
    for (Linear part : parts) {
      if (row < before + part.out()) {
        return part.matrix().from(row - before);
      }
      before += part.out();
    }
    throw new IndexOutOfBoundsException(row);
  }

  /** What all this takes. */
  public TuningMemory memory() {
    return memory;
  }

  /** The model, as far as it is tuned. */
  public Llama model() {
    return model;
  }

  /** The steps made so far. */
  public List<Step> steps() {
    return Collections.unmodifiableList(made);
  }

  /**
   * Makes the steps that are left.
   *
   * @param listener hears of each, and may {@link #save}
   * @throws IllegalArgumentException if a loss or a gradient is no number
   */
  public void run(Consumer<Step> listener) {
    List<Example> examples = data.examples();
    List<Integer> order = new ArrayList<>();
    int epoch = 0;
    for (int step = 0; step < setting.steps; step++) {
      if (order.isEmpty()) {
        order.addAll(IntStream.range(0, examples.size()).boxed().toList());
        Collections.shuffle(order, new Random(setting.seed + epoch++));
      }
      List<Integer> chosen = order.subList(0, Math.min(setting.batchSize, order.size()));
      List<Example> batch = chosen.stream().map(examples::get).toList();
      chosen.clear();
      if (step == made.size()) { // else it was made before the run was resumed
        made.add(step(step, batch));
        listener.accept(made.getLast());
      }
    }
  }

  /**
   * How texts are known that are not learnt.
   *
   * @param loss mean over the completions' tokens, in nats
   * @param accuracy share of these tokens that are the likeliest after what comes before
   * @param exact share of the completions of which every token is: what greedy decoding would give
   */
  public record Evaluation(double loss, double accuracy, double exact) {}

  /** Measures the held-out texts as the model is now. */
  public Evaluation evaluate() {
    double loss = 0;
    long hits = 0;
    long tokens = 0;
    int exact = 0;
    for (List<Example> part : passes(heldOut.examples())) {
      List<BackwardPass.Known> known = pass.read(part);
      for (int i = 0; i < part.size(); i++) {
        loss += known.get(i).loss();
        hits += known.get(i).hits();
        tokens += part.get(i).targets();
        exact += known.get(i).hits() == part.get(i).targets() ? 1 : 0;
      }
    }
    return new Evaluation(loss / tokens, (double) hits / tokens, (double) exact / heldOut.size());
  }

  /** Writes all that it takes to go on from here: the run then ends as it would have ended. */
  public void save(Path file) {
    Map<Tuned, AdamW.State> states = new LinkedHashMap<>();
    tuned.forEach((each, weights) -> states.put(each, weights.state()));
    new TuningCheckpoint(identity(), made, states).write(file);
  }

  /**
   * Goes on from there, before the first step.
   *
   * @throws dev.halter.files.BadFileException if the file is not of this very run
   */
  public void resume(Path file) {
    TuningCheckpoint checkpoint = TuningCheckpoint.read(file, identity(), selection.all());
    checkpoint.states().forEach((each, state) -> tuned.get(each).restore(state));
    made.addAll(checkpoint.steps());
  }

  private Map<String, String> identity() {
    return Map.of(
        "model", model.fingerprint(),
        "data", data.digest(),
        "selection", selection.all().toString(),
        "setting", setting.toString());
  }

  /** Makes one step, counted from 0. */
  Step step(int step, List<Example> batch) {
    int tokens = batch.stream().mapToInt(Example::targets).sum();
    double loss = 0;
    boolean more = false;
    for (List<Example> part : passes(batch)) {
      loss += pass.run(part, tokens, more);
      more = true;
    }
    loss /= tokens;
    double squares = 0;
    for (Map.Entry<Tuned, AdamW> each : tuned.entrySet()) {
      double scale = scale(each.getKey());
      squares += scale * scale * each.getValue().squares();
    }
    double norm = Math.sqrt(squares);
    if (!Double.isFinite(loss) || !Double.isFinite(norm)) {
      throw new IllegalArgumentException(
          "step %d: the %s is no number any more: lower --learning-rate, which is %s, or look at the data"
              .formatted(
                  step + 1, Double.isFinite(loss) ? "gradient" : "loss", setting.learningRate));
    }
    int warmup = (int) Math.ceil(setting.warmupRatio * setting.steps);
    double rate = setting.learningRate * setting.schedule.factor(step, warmup, setting.steps);
    double cut =
        setting.maxGradNorm == 0 ? 1 : Math.min(1, setting.maxGradNorm / (norm + 1e-6)); // as torch
    tuned.forEach(
        (each, weights) ->
            weights.step(
                new Struct<>(AdamStep.of(step + 1, rate, setting.weightDecay, cut * scale(each)))));
    int rows = batch.stream().mapToInt(Example::rows).sum();
    return new Step(step + 1, loss, norm, rate, tokens, rows);
  }

  private double scale(Tuned each) {
    boolean ofHeads =
        each instanceof Slice slice
            && switch (slice.part()) {
              case Q, K, V, O -> true;
              default -> false;
            };
    return setting.scaleHeads && ofHeads
        ? (double) model.config().nHeads() / selection.heads(each.layer())
        : 1;
  }

  /** Examples, as many together as fit. */
  private List<List<Example>> passes(List<Example> batch) {
    List<List<Example>> passes = new ArrayList<>();
    int room = 0;
    for (Example example : batch) {
      boolean full = !passes.isEmpty() && passes.getLast().size() == model.limits().sequences();
      if (example.rows() > room || full) {
        passes.add(new ArrayList<>());
        room = model.limits().rows();
      }
      passes.getLast().add(example);
      room -= example.rows();
    }
    return passes;
  }

  /**
   * Writes what has been learnt: the tuned model, a copy of the folder in which nothing but the
   * tuned slices differs; or, of vectors of heads, a plan that does to the model what they do.
   *
   * @param out a folder that does not exist
   * @param note of how it was made, which becomes its {@code tune.json}
   */
  public void write(Path out, String note) {
    if (selection.isOfVectors()) {
      new TunedPlan(out.getFileName().toString(), control()).write(out, note);
    } else {
      writeModel(out, note);
    }
  }

  /** The vectors of heads as maps: diagonal ones, or offsets. */
  HeadControl control() {
    int d = model.config().dHead();
    List<Head> heads = new ArrayList<>();
    selection.vectors().forEach(vectors -> heads.addAll(vectors.heads()));
    float[] a = new float[heads.size() * d * d];
    float[] b = new float[heads.size() * d];
    int at = 0;
    for (HeadVectors vectors : selection.vectors()) {
      for (float value : tuned.get(vectors).values()) {
        boolean scales = vectors.kind() == HeadVector.SCALE;
        a[at * d + at % d] = scales ? 1 + value : 1;
        b[at] = scales ? 0 : value;
        at++;
      }
    }
    return new HeadControl(model.fingerprint(), Map.of(), heads, a, b);
  }

  private void writeModel(Path out, String note) {
    try (ModelCopy copy = ModelCopy.of(folder, out)) {
      for (Slice slice : selection.slices()) {
        AdamW weights = tuned.get(slice);
        long width = weight(slice).rowStride();
        float[] values = weights.values();
        for (int row = 0; row < slice.rows(); row++) {
          float[] part = new float[slice.columns()];
          System.arraycopy(values, row * part.length, part, 0, part.length);
          copy.set(slice.tensor(), (slice.row() + row) * width + slice.column(), 1, part);
        }
      }
      copy.add("tune.json", note);
      copy.finish();
    }
  }

  /**
   * Checks that {@link #writeAdapter} can hold what is tuned.
   *
   * @throws IllegalArgumentException if not, saying what stands in the way
   */
  public static void requireAdapter(ModelConfig config, Selection selection) {
    LoraAdapter.requireFits(config, selection);
  }

  /**
   * Writes what has changed as a LoRA adapter of PEFT for the model as it was.
   *
   * @param out a folder that does not exist
   */
  public void writeAdapter(Path out) {
    List<LoraAdapter.Change> changes = new ArrayList<>();
    for (Slice slice : selection.slices()) {
      changes.add(new LoraAdapter.Change(slice, change(slice, tuned.get(slice))));
    }
    new LoraAdapter(model.config(), changes).write(out, folder.toString());
  }

  private float[] change(Slice slice, AdamW weights) {
    float[] before = model.weights().checkpoint().tensor(slice.tensor()).toFloats();
    int width = (int) weight(slice).rowStride();
    float[] values = weights.values();
    for (int i = 0; i < values.length; i++) {
      int row = slice.row() + i / slice.columns();
      values[i] -= before[row * width + slice.column() + i % slice.columns()];
    }
    return values;
  }

  @Override
  public void close() {
    scope.close();
  }
}
