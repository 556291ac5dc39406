package dev.halter.evaluation;

import dev.halter.concepts.DictionaryBuilder;
import dev.halter.concepts.Direction;
import dev.halter.concepts.Stimuli;
import dev.halter.evaluation.RemovalTask.Item;
import dev.halter.files.BadFileException;
import dev.halter.files.Destination;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.scoring.Perplexity;
import dev.halter.sparse.DictionaryFile;
import dev.halter.sparse.Solver;
import dev.halter.steering.RemoveConcepts;
import dev.halter.steering.RemoveConcepts.Coding;
import dev.halter.steering.RemoveConcepts.Solve;
import dev.halter.steering.SteeringPlan;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.function.BiFunction;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/**
 * The ways of PaCE's tables (arXiv 2406.04331) to rid a model of a behaviour, side by side: asking
 * it, vector addition, orthogonal projection, and removal from sparse codes by OMP and elastic net.
 *
 * <p>Every way but asking is tried from several layers on and, projection apart, at several
 * strengths, on one half of the questions; what has the largest sum of plain and unrelated accuracy
 * there is measured on the other half. (The paper has one fixed setting of each: our inference.)
 * Vector addition and projection take one direction, as the paper's do: the sum of the atoms to be
 * removed, at unit length.
 */
public final class RemovalEvaluation {
  /** PaCE's setting. */
  private static final Solver NET = new Solver.ElasticNet(0.05, 0.95);

  /** Few atoms, as suits a small d_model: the paper's 50 to 200 are for 4,096. */
  private static final Solver OMP = new Solver.Omp(16, 0);

  private static final float[] STRENGTHS = {0.5f, 1, 2};
  private static final float[] SCALES = {2, 4, 8, 16};

  /**
   * A line of the table.
   *
   * @param setting that was chosen on the first half, empty where there is no choice
   * @param behaviour share of answers with the behaviour
   * @param plain share of the same answers that are the plain ones
   * @param perplexity of these to the unsteered model, asked without the system message; NaN if all
   *     are empty
   * @param unrelated share of right answers to the unrelated questions
   * @param tokenSeconds time that answering both took in one batch, for each token of the answers
   * @param example the answer to the first question
   */
  public record Row(
      String method,
      String setting,
      double behaviour,
      double plain,
      double perplexity,
      double unrelated,
      double tokenSeconds,
      String example) {}

  /** A way to be tried. */
  private record Way(String setting, SteeringPlan plan, boolean instructed) {}

  /** Tokens of the answers to a half's questions. */
  private record Answers(List<int[]> behaviour, List<int[]> unrelated) {}

  private final LanguageModel model;
  private final Path dictionary;
  private final RemovalTask task;
  private final List<Integer> layers;
  private final Map<Integer, float[]> directions = new HashMap<>();

  /**
   * An evaluation.
   *
   * @param dictionary of hook_resid_post, one for each layer that may be edited
   * @throws dev.halter.files.BadFileException if the dictionary cannot be read, lacks a concept of
   *     the task or is of another model
   */
  public RemovalEvaluation(LanguageModel model, Path dictionary, RemovalTask task) {
    this.model = model;
    this.dictionary = dictionary;
    this.task = task;
    int count = model.config().nLayers();
    try (DictionaryFile file = DictionaryFile.open(dictionary)) {
      file.requireWidth(model.config().dModel());
      layers =
          file.layers().isEmpty()
              ? IntStream.range(0, count).boxed().toList()
              : List.copyOf(file.layers());
      if (layers.getLast() >= count) {
        throw new BadFileException(
            dictionary,
            "has atoms of layer %d; this model has layers 0..%d"
                .formatted(layers.getLast(), count - 1));
      }
      for (int layer : layers) {
        directions.put(layer, direction(file, layer));
      }
    }
  }

  /**
   * An evaluation with a dictionary that is made for it, of all layers, and then thrown away.
   *
   * @param stimuli as {@link Stimuli} reads them
   * @param progress hears what is done next
   */
  public static List<Row> ofStimuli(
      LanguageModel model, Path stimuli, RemovalTask task, Consumer<String> progress) {
    Stimuli texts = Stimuli.read(stimuli);
    DictionaryBuilder.Settings settings =
        new DictionaryBuilder.Settings(
            0, model.config().nLayers() - 1, Direction.PCA, "{text}", Integer.MAX_VALUE, 64, 0);
    Path temporary = Path.of(System.getProperty("java.io.tmpdir"));
    try {
      Path folder = Files.createTempDirectory("halter-concepts");
      try {
        Path made = folder.resolve("concepts.safetensors");
        progress.accept("dictionary of " + texts.concepts().size() + " concepts");
        new DictionaryBuilder(model, model::encode, texts, settings).build(made, count -> {});
        return new RemovalEvaluation(model, made, task).run(progress);
      } finally {
        for (String name : List.of("concepts.safetensors", "concepts.safetensors.part")) {
          Files.deleteIfExists(folder.resolve(name));
        }
        Files.delete(folder);
      }
    } catch (IOException e) {
      throw Destination.unwritable(temporary, e);
    }
  }

  /** The unit sum of the atoms to be removed. */
  private float[] direction(DictionaryFile file, int layer) {
    double[] sum = new double[file.width()];
    for (String concept : task.remove()) {
      float[] atom = file.atom(layer, concept);
      Arrays.setAll(sum, i -> sum[i] + atom[i]);
    }
    double squares = 0;
    for (double x : sum) {
      squares += x * x;
    }
    double norm = Math.sqrt(squares);
    float[] direction = new float[sum.length];
    for (int i = 0; i < direction.length; i++) {
      direction[i] = (float) (sum[i] / norm);
    }
    if (!Float.isFinite(direction[0])) {
      throw new BadFileException(
          dictionary, "the atoms of " + task.remove() + " cancel out in layer " + layer);
    }
    return direction;
  }

  /**
   * Sets up and measures every method.
   *
   * @param progress hears which is next
   */
  public List<Row> run(Consumer<String> progress) {
    List<Row> rows = new ArrayList<>();
    // What is only done once must not count as the first method's time.
    ask(task.half(0), new Way("", SteeringPlan.NONE, false));
    methods()
        .forEach(
            (method, ways) -> {
              progress.accept(method);
              rows.add(row(method, ways.size() == 1 ? ways.getFirst() : best(ways)));
            });
    return rows;
  }

  private Map<String, List<Way>> methods() {
    Map<String, List<Way>> methods = new LinkedHashMap<>();
    methods.put("none", List.of(new Way("", SteeringPlan.NONE, false)));
    methods.put("prompting", List.of(new Way("", SteeringPlan.NONE, true)));
    methods.put("vector addition", ways(SCALES, this::addition));
    methods.put("orthogonal projection", ways(new float[] {1}, this::projection));
    methods.put("OMP", ways(STRENGTHS, (site, strength) -> removal(site, OMP, strength)));
    methods.put("elastic net", ways(STRENGTHS, (site, strength) -> removal(site, NET, strength)));
    return methods;
  }

  /** An edit of every layer from each quarter on, at each strength; the mildest come first. */
  private List<Way> ways(float[] strengths, BiFunction<Site, Float, Edit> edit) {
    List<Way> ways = new ArrayList<>();
    for (float strength : strengths) {
      for (int first : new TreeSet<>(quarters()).descendingSet()) {
        List<Edit> edits =
            layers.subList(first, layers.size()).stream()
                .map(layer -> new Site(Site.Kind.RESID_POST, layer))
                .map(site -> edit.apply(site, strength))
                .toList();
        String setting =
            "layers %d..%d, strength %s".formatted(layers.get(first), layers.getLast(), strength);
        ways.add(new Way(setting, SteeringPlan.of(edits).named(setting), false));
      }
    }
    return ways;
  }

  private List<Integer> quarters() {
    return IntStream.range(0, 4).mapToObj(quarter -> quarter * layers.size() / 4).toList();
  }

  private Edit addition(Site site, float scale) {
    return new Edit.Add(site, directions.get(site.layer()), -scale);
  }

  private Edit projection(Site site, float whole) {
    return new Edit.Ablate(site, directions.get(site.layer()));
  }

  private Edit removal(Site site, Solver solver, float strength) {
    Coding coding = new Coding(dictionary, site.layer(), solver, Solve.EVERY_TOKEN);
    return new RemoveConcepts(site, coding, task.remove(), false, strength);
  }

  /** The first of the best on the first half; none can be better than one without an error. */
  private Way best(List<Way> ways) {
    RemovalTask half = task.half(0);
    Way best = null;
    double most = -1;
    for (int i = 0; i < ways.size() && most < 2; i++) {
      Answers answers = ask(half, ways.get(i));
      double right =
          right(half.behaviour(), answers.behaviour) + right(half.unrelated(), answers.unrelated);
      if (right > most) {
        most = right;
        best = ways.get(i);
      }
    }
    return best;
  }

  /** Measured on the second half. */
  private Row row(String method, Way way) {
    RemovalTask half = task.half(1);
    long start = System.nanoTime();
    Answers answers = ask(half, way);
    double seconds = (System.nanoTime() - start) / 1e9;
    int tokens =
        Stream.concat(answers.behaviour.stream(), answers.unrelated.stream())
            .mapToInt(answer -> answer.length)
            .sum();
    List<String> texts = answers.behaviour.stream().map(model::decode).map(String::strip).toList();
    List<int[]> prompts = half.behaviour().stream().map(Item::plain).toList();
    return new Row(
        method,
        way.setting,
        (double) texts.stream().filter(half::shows).count() / texts.size(),
        right(half.behaviour(), answers.behaviour),
        Perplexity.of(model.engine(), prompts, answers.behaviour, SteeringPlan.NONE),
        right(half.unrelated(), answers.unrelated),
        seconds / tokens,
        texts.getFirst());
  }

  /** All answers, generated together. */
  private Answers ask(RemovalTask half, Way way) {
    List<int[]> answers =
        model
            .engine()
            .run(
                Stream.concat(half.behaviour().stream(), half.unrelated().stream())
                    .map(item -> way.instructed ? item.instructed() : item.asked())
                    .map(question -> question.request().with(way.plan))
                    .toList())
            .stream()
            .map(result -> result.orThrow().tokens())
            .toList();
    int split = half.behaviour().size();
    return new Answers(answers.subList(0, split), answers.subList(split, answers.size()));
  }

  /** Share of right answers. */
  private static double right(List<Item> items, List<int[]> answers) {
    long right =
        IntStream.range(0, items.size())
            .filter(i -> items.get(i).asked().isRight().test(answers.get(i)))
            .count();
    return (double) right / items.size();
  }
}
