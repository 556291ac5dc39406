package dev.halter.evaluation;

import dev.halter.evaluation.ArithmeticEvaluation.Found;
import dev.halter.files.Destination;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.RandomHeads;
import dev.halter.model.Head;
import dev.halter.patching.Pair;
import dev.halter.scoring.Perplexity;
import dev.halter.scoring.Question;
import dev.halter.steering.SteeringPlan;
import dev.halter.tuning.RateSchedule;
import dev.halter.tuning.Selection;
import dev.halter.tuning.TuningData;
import dev.halter.tuning.TuningRun;
import dev.halter.weights.ModelConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/**
 * The claim that the arithmetic paper ends with (arXiv 2409.01659) put to a model: that tuning the
 * few heads that path patching finds teaches sums as well as tuning more does, and costs less
 * elsewhere. Heads are found with sums that the model knows; what is learnt is sums that it does
 * not know. Each way to tune has the learning rate that is best on development sums; everything
 * reported is of further sums, of known sums that no head was found with, and of other questions.
 */
public final class TuningEvaluation {
  private static final int BATCH = 16;

  /**
   * What is tried.
   *
   * @param pairs known sums to find heads with, and as many to ask again after tuning
   * @param heads numbers of heads to tune
   * @param draws of as many random heads, for each number
   * @param everything whether all heads are tuned with all MLPs as well
   * @param learnt new sums to learn
   * @param asked new sums to choose learning rates by, and as many to measure with
   * @param epochs over what is learnt
   */
  public record Tried(
      int pairs,
      List<Integer> heads,
      int draws,
      boolean everything,
      int learnt,
      int asked,
      int epochs,
      List<Double> learningRates,
      long seed) {}

  /**
   * A model's answers.
   *
   * @param added share of right answers to new sums
   * @param known to known sums
   * @param other to other questions, by kind
   * @param perplexity of the texts, NaN if there are none
   */
  public record Shares(double added, double known, Map<String, Double> other, double perplexity) {}

  /**
   * A way to tune.
   *
   * @param heads that are tuned; of random ones the first draw
   * @param mlps layers whose MLPs are tuned
   * @param parameters how many weights that are, of random heads their mean
   * @param learningRates that were chosen, one for each draw
   * @param shares afterwards, of random heads their means
   */
  public record Row(
      String name,
      List<Head> heads,
      List<Integer> mlps,
      double parameters,
      List<Double> learningRates,
      Shares shares) {}

  /**
   * The table.
   *
   * @param pairs that heads were found with
   * @param found the heads, those that known sums need most first
   * @param learnt new sums
   * @param measured new sums that shares are of
   * @param before the model as it was
   */
  public record Report(
      int pairs, List<Found> found, int learnt, int measured, Shares before, List<Row> rows) {}

  private final LanguageModel model;
  private final ModelConfig config;
  private final Tried tried;
  private final Function<Path, LanguageModel> opener;
  private final Consumer<String> progress;
  private final TuningData learn;
  private final TuningData development;
  private final List<Question> questions = new ArrayList<>();
  private final List<int[]> texts;
  private final int measured;
  private final int knownMeasured;

  private TuningEvaluation(
      LanguageModel model,
      List<Pair> known,
      List<Pair> added,
      List<Question> other,
      List<int[]> texts,
      Tried tried,
      Function<Path, LanguageModel> opener,
      Consumer<String> progress) {
    this.model = model;
    this.config = model.config();
    this.tried = tried;
    this.opener = opener;
    this.progress = progress;
    this.texts = texts;
    this.learn = TuningData.of(added.subList(0, tried.learnt));
    this.development = TuningData.of(added.subList(tried.learnt, tried.learnt + tried.asked));
    List<Pair> last = added.subList(tried.learnt + tried.asked, added.size());
    last.forEach(pair -> questions.add(pair.question("new sums")));
    known.forEach(pair -> questions.add(pair.question("known sums")));
    questions.addAll(other);
    this.measured = last.size();
    this.knownMeasured = known.size();
  }

  /**
   * Finds heads, tunes in each way, and measures.
   *
   * @param known sums, of which those that the model answers rightly are taken
   * @param added sums to learn, in a random order
   * @param other questions that tuning should not matter for
   * @param texts that perplexity is measured on
   * @param opener opens a tuned model as {@code model} was opened
   * @param progress hears what is done next
   * @throws IllegalArgumentException if there are too few sums, or too few heads for {@code tried}
   */
  public static Report of(
      LanguageModel model,
      List<Arithmetic.Example> known,
      List<Arithmetic.Example> added,
      List<Question> other,
      List<int[]> texts,
      Tried tried,
      Function<Path, LanguageModel> opener,
      Consumer<String> progress) {
    progress.accept("sums that the model answers");
    List<Pair> pairs =
        Arithmetic.pairs(model, known, new Arithmetic.Wanted(2 * tried.pairs, true, false)).pairs();
    int half = pairs.size() / 2;
    int wanted = tried.learnt + 2 * tried.asked;
    List<Pair> lessons =
        Arithmetic.pairs(model, added, new Arithmetic.Wanted(wanted, false, false)).pairs();
    if (half < 2 || lessons.size() < wanted) {
      throw new IllegalArgumentException(
          "%d sums that the model answers and %d of %d new ones with an answer of one token are too few"
              .formatted(pairs.size(), lessons.size(), wanted));
    }
    progress.accept("path patching");
    List<Found> found = ArithmeticEvaluation.find(model.llama(), pairs.subList(0, half));
    int most = tried.heads.stream().mapToInt(Integer::intValue).max().orElse(0);
    if (2 * most > found.size()) {
      throw new IllegalArgumentException(
          "%d heads and as many random others are more than the model has: %d"
              .formatted(most, found.size()));
    }
    TuningEvaluation evaluation =
        new TuningEvaluation(
            model, pairs.subList(half, 2 * half), lessons, other, texts, tried, opener, progress);
    Shares before = evaluation.shares(model);
    List<Row> rows = evaluation.rows(found.stream().map(Found::head).toList());
    return new Report(
        half, found.subList(0, most), tried.learnt, evaluation.measured, before, rows);
  }

  private List<Row> rows(List<Head> order) {
    List<Row> rows = new ArrayList<>();
    Random random = new Random(tried.seed);
    for (int count : tried.heads) {
      List<Head> first = order.subList(0, count);
      rows.add(row(count + " heads", first, List.of()));
      List<Row> draws = new ArrayList<>();
      RandomHeads others = new RandomHeads(config, first, random);
      for (int i = 0; i < tried.draws; i++) {
        draws.add(row(count + " random heads", others.draw().subList(0, count), List.of()));
      }
      if (!draws.isEmpty()) {
        rows.add(mean(draws));
      }
    }
    List<Head> all = Head.all(config);
    rows.add(row("all heads", all, List.of()));
    if (tried.everything) {
      List<Integer> layers = IntStream.range(0, config.nLayers()).boxed().toList();
      rows.add(row("all heads and MLPs", all, layers));
    }
    return rows;
  }

  /** Tunes in a way, with the learning rate that is best on development sums. */
  private Row row(String name, List<Head> heads, List<Integer> mlps) {
    progress.accept("tuning " + name);
    Selection selection = new Selection(config, heads, mlps, Selection.ALL_PARTS);
    int steps = Math.ceilDiv(learn.size(), BATCH) * tried.epochs;
    Path best = null;
    double rate = 0;
    double loss = Double.POSITIVE_INFINITY;
    try {
      for (double learningRate : tried.learningRates) {
        TuningRun.Setting setting =
            new TuningRun.Setting(
                learningRate, BATCH, steps, RateSchedule.LINEAR, 0, 0, 1, true, 0, tried.seed);
        try (TuningRun run =
            new TuningRun(model.device(), model.folder(), selection, learn, development, setting)) {
          run.run(step -> {});
          double reached = run.evaluate().loss();
          if (reached < loss) {
            Path folder = Files.createTempDirectory("halter-tuned").resolve("model");
            run.write(folder, "{}\n");
            delete(best);
            best = folder;
            rate = learningRate;
            loss = reached;
          }
        }
      }
      try (LanguageModel tuned = opener.apply(best)) {
        return new Row(name, heads, mlps, selection.parameters(), List.of(rate), shares(tuned));
      }
    } catch (IOException e) {
      throw Destination.unwritable(Path.of(System.getProperty("java.io.tmpdir")), e);
    } finally {
      delete(best);
    }
  }

  /** Takes away a model's folder, and the one that it lies in. */
  private static void delete(Path folder) {
    if (folder == null) {
      return;
    }
    try {
      try (Stream<Path> files = Files.list(folder)) {
        for (Path file : files.toList()) {
          Files.delete(file);
        }
      }
      Files.delete(folder);
      Files.delete(folder.getParent());
    } catch (IOException e) {
      throw Destination.unwritable(folder, e);
    }
  }

  private Shares shares(LanguageModel of) {
    boolean[] right = Question.ask(of.engine(), questions);
    int others = measured + knownMeasured;
    Map<String, int[]> counts = new TreeMap<>();
    for (int i = others; i < right.length; i++) {
      int[] count = counts.computeIfAbsent(questions.get(i).kind(), kind -> new int[2]);
      count[0] += right[i] ? 1 : 0;
      count[1]++;
    }
    Map<String, Double> other = new TreeMap<>();
    counts.forEach((kind, count) -> other.put(kind, (double) count[0] / count[1]));
    return new Shares(
        share(right, 0, measured),
        share(right, measured, others),
        other,
        Perplexity.of(of.engine(), texts, SteeringPlan.NONE));
  }

  private static double share(boolean[] right, int from, int to) {
    return (double) IntStream.range(from, to).filter(i -> right[i]).count() / (to - from);
  }

  private static Row mean(List<Row> draws) {
    List<Shares> all = draws.stream().map(Row::shares).toList();
    Map<String, Double> other = new TreeMap<>();
    for (String kind : all.getFirst().other.keySet()) {
      other.put(kind, all.stream().mapToDouble(each -> each.other.get(kind)).average().orElse(0));
    }
    return new Row(
        draws.getFirst().name + (draws.size() == 1 ? "" : ", mean of " + draws.size()),
        draws.getFirst().heads,
        List.of(),
        draws.stream().mapToDouble(Row::parameters).average().orElseThrow(),
        draws.stream().flatMap(row -> row.learningRates.stream()).toList(),
        new Shares(
            all.stream().mapToDouble(Shares::added).average().orElseThrow(),
            all.stream().mapToDouble(Shares::known).average().orElseThrow(),
            other,
            all.stream().mapToDouble(Shares::perplexity).average().orElseThrow()));
  }
}
