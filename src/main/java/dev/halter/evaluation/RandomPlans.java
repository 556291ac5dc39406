package dev.halter.evaluation;

import dev.halter.heads.RandomHeads;
import dev.halter.model.Edit;
import dev.halter.model.Head;
import dev.halter.model.Site;
import dev.halter.sparse.DictionaryFile;
import dev.halter.steering.RemoveConcepts;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringPlan.Intervention;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * What a plan is set against: the same edits at the same tokens of something drawn at random.
 * Directions become Gaussian ones of the same norm at the same site, neurons others of their layer,
 * heads others of the model, concepts others of the dictionary; counts, values, maps and strengths
 * stay.
 */
final class RandomPlans {
  private final ModelConfig config;
  private final SteeringPlan plan;
  private final Random random;

  /**
   * Draws for a plan.
   *
   * @param seed of all draws, which one follows another
   */
  RandomPlans(ModelConfig config, SteeringPlan plan, long seed) {
    this.config = config;
    this.plan = plan;
    this.random = new Random(seed);
  }

  /**
   * The next draw.
   *
   * @throws IllegalArgumentException if there are too few other heads, neurons or concepts
   */
  SteeringPlan draw() {
    Map<Head, Head> heads = heads();
    List<Intervention> drawn = new ArrayList<>();
    for (Intervention each : plan.interventions()) {
      for (Edit edit : edits(each.edit(), heads)) {
        drawn.add(new Intervention(edit, each.trigger()));
      }
    }
    return new SteeringPlan("random, for " + plan.name(), drawn);
  }

  private List<Edit> edits(Edit edit, Map<Head, Head> others) {
    return switch (edit) {
      case Edit.Add add ->
          List.of(new Edit.Add(add.site(), direction(norm(add.vector())), add.scale()));
      case Edit.Ablate ablate ->
          List.of(new Edit.Ablate(ablate.site(), direction(1), ablate.strength()));
      case Edit.Project project ->
          List.of(
              new Edit.Project(
                  project.site(), direction(1), project.min(), project.max(), project.strength()));
      case Edit.Neurons neurons ->
          List.of(
              new Edit.Neurons(
                  neurons.site(),
                  otherNeurons(neurons.neurons()),
                  neurons.scale(),
                  neurons.min(),
                  neurons.max(),
                  neurons.strength()));
      case Edit.Heads scaled ->
          heads(scaled.site(), scaled.heads()).stream()
              .map(others::get)
              .<Edit>map(
                  head -> new Edit.Heads(site(head), new int[] {head.head()}, scaled.scale()))
              .toList();
      case Edit.HeadAffine maps -> affine(maps, others);
      case RemoveConcepts removed ->
          List.of(
              new RemoveConcepts(
                  removed.site(),
                  removed.coding(),
                  otherConcepts(removed),
                  removed.keep(),
                  removed.strength()));
      default ->
          throw new IllegalArgumentException(
              "nothing random stands for " + edit.op() + ": leave random plans out");
    };
  }

  private static Site site(Head head) {
    return new Site(Site.Kind.Z, head.layer());
  }

  private static List<Edit> affine(Edit.HeadAffine maps, Map<Head, Head> others) {
    List<Edit> edits = new ArrayList<>();
    int d = maps.b().length / maps.heads().length;
    for (int i = 0; i < maps.heads().length; i++) {
      Head head = others.get(new Head(maps.site().layer(), maps.heads()[i]));
      edits.add(
          new Edit.HeadAffine(
              site(head),
              new int[] {head.head()},
              Arrays.copyOfRange(maps.a(), i * d * d, (i + 1) * d * d),
              Arrays.copyOfRange(maps.b(), i * d, (i + 1) * d),
              maps.fingerprint()));
    }
    return edits;
  }

  private static List<Head> heads(Site site, int... heads) {
    return Arrays.stream(heads).mapToObj(head -> new Head(site.layer(), head)).toList();
  }

  /** Another head for each of the plan's, no two the same. */
  private Map<Head, Head> heads() {
    List<Head> own =
        plan.interventions().stream()
            .flatMap(
                each ->
                    switch (each.edit()) {
                      case Edit.Heads scaled -> heads(scaled.site(), scaled.heads()).stream();
                      case Edit.HeadAffine maps -> heads(maps.site(), maps.heads()).stream();
                      default -> List.<Head>of().stream();
                    })
            .distinct()
            .toList();
    RandomHeads others = new RandomHeads(config, own, random);
    require(own.size(), others.count(), "heads");
    List<Head> drawn = others.draw();
    Map<Head, Head> instead = new HashMap<>();
    own.forEach(head -> instead.put(head, drawn.get(instead.size())));
    return instead;
  }

  private void require(int wanted, int there, String what) {
    if (wanted > there) {
      throw new IllegalArgumentException(
          "%s has %,d %s, and there are only %,d others to draw from: leave random plans out"
              .formatted(plan.name(), wanted, what, there));
    }
  }

  private int[] otherNeurons(int... own) {
    Set<Integer> taken = new HashSet<>();
    Arrays.stream(own).forEach(taken::add);
    List<Integer> others =
        new ArrayList<>(
            IntStream.range(0, config.dMlp()).filter(i -> !taken.contains(i)).boxed().toList());
    require(own.length, others.size(), "neurons of a layer");
    Collections.shuffle(others, random);
    return others.subList(0, own.length).stream().mapToInt(Integer::intValue).toArray();
  }

  private List<String> otherConcepts(RemoveConcepts removed) {
    try (DictionaryFile dictionary = DictionaryFile.open(removed.coding().dictionary())) {
      Set<String> names =
          new HashSet<>(IntStream.range(0, dictionary.size()).mapToObj(dictionary::name).toList());
      names.removeAll(removed.names());
      List<String> others = new ArrayList<>(names.stream().sorted().toList());
      require(removed.names().size(), others.size(), "concepts");
      Collections.shuffle(others, random);
      return others.subList(0, removed.names().size());
    }
  }

  private static double norm(float... vector) {
    double squares = 0;
    for (float x : vector) {
      squares += (double) x * x;
    }
    return Math.sqrt(squares);
  }

  private float[] direction(double norm) {
    double[] drawn = new double[config.dModel()];
    double squares = 0;
    for (int i = 0; i < drawn.length; i++) {
      drawn[i] = random.nextGaussian();
      squares += drawn[i] * drawn[i];
    }
    float[] direction = new float[drawn.length];
    for (int i = 0; i < direction.length; i++) {
      direction[i] = (float) (drawn[i] * norm / Math.sqrt(squares));
    }
    return direction;
  }
}
