package dev.halter.heads;

import dev.halter.generation.Engine;
import dev.halter.generation.Request;
import dev.halter.model.Capture;
import dev.halter.model.Edit;
import dev.halter.model.Head;
import dev.halter.model.Site;
import dev.halter.scoring.Question;
import dev.halter.steering.Reach;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringPlan.Intervention;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.TensorNames;
import dev.halter.weights.TensorView;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;

/**
 * Takes heads out of a model and counts what it still answers rightly, against the same number of
 * random other heads. A head is taken out at z, before o_proj: where several query heads share keys
 * and values (GQA), the others of the group go on reading them.
 *
 * <p>The arithmetic paper (arXiv 2409.01659) replaces z by its mean; over which prompts and tokens
 * is not known to us. Here a mean is over the tokens that are replaced: all, or the last of each
 * prompt (our inference).
 */
public final class Knockout {
  /** What takes the place of a head's output. */
  public enum Mode {
    /** Nothing. */
    ZERO,
    /** Its mean over prompts. */
    MEAN,
    /** What it is at the end of another prompt, drawn at random for each question. */
    RESAMPLE
  }

  /**
   * How heads are taken out.
   *
   * @param reach tokens of a question that lose the heads
   * @param sources prompts that means and samples are taken from; not used for ZERO
   * @param seed of the random heads and samples
   */
  public record Setting(Mode mode, Reach reach, List<int[]> sources, long seed) {
    public Setting {
      if (mode == Mode.RESAMPLE && reach == Reach.ALL) {
        throw new IllegalArgumentException(
            "resample knows a head's output at the end of other prompts: it can only take the place"
                + " of the output from the end on");
      }
      if (mode != Mode.ZERO && sources.size() < 2) {
        throw new IllegalArgumentException("mean and resample need two prompts or more");
      }
    }
  }

  /**
   * Accuracy on one kind of questions.
   *
   * @param intact of the model as it is
   * @param without of the model without the heads
   * @param random of the model without as many random other heads, for each draw
   */
  public record Accuracy(
      String kind, int questions, double intact, double without, double[] random) {
    public double randomMean() {
      return Arrays.stream(random).average().orElse(Double.NaN);
    }

    /** Sample standard deviation over the draws; NaN for fewer than two. */
    public double randomDeviation() {
      double mean = randomMean();
      double squares = Arrays.stream(random).map(x -> (x - mean) * (x - mean)).sum();
      return Math.sqrt(squares / (random.length - 1));
    }
  }

  private final Engine engine;
  private final ModelConfig config;
  private final Setting setting;
  private final float[][] outputs; // z at the end of each source, [layer, head, d_head]
  private final float[] mean; // z over the tokens that are replaced, [layer, head, d_head]

  /** Reads what takes the place of z from the sources. */
  public Knockout(Engine engine, Setting setting) {
    this.engine = engine;
    this.config = engine.model().config();
    this.setting = setting;
    int sources = setting.mode == Mode.ZERO ? 0 : setting.sources.size();
    int width = config.nLayers() * config.nHeads() * config.dHead();
    this.outputs = new float[sources][width];
    this.mean = new float[width];
    if (sources > 0) {
      readSources();
    }
  }

  private void readSources() {
    List<Site> sites = new ArrayList<>();
    for (int layer = 0; layer < config.nLayers(); layer++) {
      sites.add(new Site(Site.Kind.Z, layer));
    }
    int width = config.nHeads() * config.dHead();
    double[] sum = new double[mean.length];
    long count = 0;
    for (int source = 0; source < outputs.length; source++) {
      // One at a time: all tokens of all layers are in memory until they are added up.
      int[] prompt = setting.sources.get(source);
      int first = setting.reach == Reach.ALL ? 0 : prompt.length - 1;
      Capture capture = new Capture(config, sites, prompt.length, first);
      engine.run(Request.of(prompt).withId("source").withMaxTokens(0).with(capture)).orThrow();
      for (int layer = 0; layer < config.nLayers(); layer++) {
        float[] z = capture.values().get(sites.get(layer));
        System.arraycopy(z, z.length - width, outputs[source], layer * width, width);
        for (int i = 0; i < z.length; i++) {
          sum[layer * width + i % width] += z[i];
        }
      }
      count += prompt.length - first;
    }
    for (int i = 0; i < sum.length; i++) {
      mean[i] = (float) (sum[i] / count);
    }
  }

  /**
   * The plan that takes heads out of one question: z becomes 0, and what o_proj makes of the
   * replacement is added to what attention adds to the residual stream.
   */
  public SteeringPlan plan(Collection<Head> heads, int question) {
    Map<Integer, List<Head>> byLayer = new TreeMap<>();
    heads.forEach(
        head -> byLayer.computeIfAbsent(head.layer(), layer -> new ArrayList<>()).add(head));
    List<Intervention> interventions = new ArrayList<>();
    byLayer.forEach(
        (layer, headsOfLayer) -> {
          int[] indices = headsOfLayer.stream().mapToInt(Head::head).toArray();
          List<Edit> edits = new ArrayList<>();
          edits.add(new Edit.Heads(new Site(Site.Kind.Z, layer), indices, 0));
          if (setting.mode != Mode.ZERO) {
            float[] added = projected(headsOfLayer, replacement(question));
            edits.add(new Edit.Add(new Site(Site.Kind.ATTN_OUT, layer), added, 1));
          }
          interventions.addAll(setting.reach.of(edits));
        });
    return new SteeringPlan("without " + heads, interventions);
  }

  /** z [layer, head, d_head] that takes the place of a question's. */
  private float[] replacement(int question) {
    if (setting.mode == Mode.MEAN) {
      return mean;
    }
    // Sources and questions may be the same prompts: the next one is another.
    Random random = new Random(setting.seed * 31 + question);
    return outputs[(question + 1 + random.nextInt(outputs.length - 1)) % outputs.length];
  }

  /** What o_proj makes of the heads' parts of z: [d_model]. */
  private float[] projected(List<Head> heads, float[] z) {
    float[] sum = new float[config.dModel()];
    float[] row = new float[config.dHead()];
    for (Head head : heads) {
      TensorView weight =
          engine.model().weights().checkpoint().tensor(TensorNames.Block.O.weight(head.layer()));
      int from = (head.layer() * config.nHeads() + head.head()) * config.dHead();
      for (int out = 0; out < sum.length; out++) {
        weight.copyFloats(((long) out * config.nHeads() + head.head()) * config.dHead(), row);
        double dot = 0;
        for (int i = 0; i < row.length; i++) {
          dot += (double) row[i] * z[from + i];
        }
        sum[out] += (float) dot;
      }
    }
    engine.model().weights().checkpoint().requireWhole();
    return sum;
  }

  /**
   * Asks questions of the model as it is, without the heads, and without as many random other heads
   * in {@code draws} draws, all in one batch.
   *
   * @param done hears how many answers stand; there are {@code (draws + 2) · questions}
   * @return accuracy for each kind of questions, in the order of their first question
   * @throws IllegalArgumentException if there are not as many other heads
   */
  public List<Accuracy> run(
      Collection<Head> heads, int draws, List<Question> questions, IntConsumer done) {
    List<Collection<Head>> sets = new ArrayList<>();
    sets.add(List.of());
    sets.add(heads);
    sets.addAll(randomHeads(heads, draws));
    List<Question.Plans> plans = new ArrayList<>();
    for (Collection<Head> set : sets) {
      // Plans that are the same for every question share their tables on the device.
      SteeringPlan same = setting.mode == Mode.RESAMPLE ? null : plan(set, 0);
      plans.add(question -> same == null ? plan(set, question) : same);
    }
    boolean[][] right = Question.ask(engine, questions, plans, done);
    Map<String, List<Integer>> kinds = new LinkedHashMap<>();
    for (int i = 0; i < questions.size(); i++) {
      kinds.computeIfAbsent(questions.get(i).kind(), kind -> new ArrayList<>()).add(i);
    }
    List<Accuracy> accuracies = new ArrayList<>();
    kinds.forEach(
        (kind, ofKind) -> {
          double[] shares = new double[sets.size()];
          for (int set = 0; set < shares.length; set++) {
            boolean[] answers = right[set];
            shares[set] = ofKind.stream().filter(i -> answers[i]).count() / (double) ofKind.size();
          }
          double[] random = Arrays.copyOfRange(shares, 2, shares.length);
          accuracies.add(new Accuracy(kind, ofKind.size(), shares[0], shares[1], random));
        });
    return accuracies;
  }

  /** As many heads as given, none of them, drawn anew for each draw. */
  public List<List<Head>> randomHeads(Collection<Head> heads, int draws) {
    RandomHeads others = new RandomHeads(config, heads, new Random(setting.seed));
    if (draws > 0 && others.count() < heads.size()) {
      throw new IllegalArgumentException(
          "%d heads are taken out, but only %d others are left to compare with: name fewer heads"
              .formatted(heads.size(), others.count()));
    }
    return IntStream.range(0, draws)
        .mapToObj(draw -> others.draw().subList(0, heads.size()))
        .toList();
  }
}
