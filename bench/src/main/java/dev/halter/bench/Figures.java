package dev.halter.bench;

import dev.halter.generation.Engine;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.Sampling;
import dev.halter.model.Capture;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.Trigger;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;

/**
 * Halter's side of {@code bench/compare} and of the stages of a GPU run: reads figures from standard
 * input, one a line, and answers each with a line of JSON, like {@code bench/python/generate.py -}.
 * A figure is {@code KIND:N}, and options behind commas:
 *
 * <ul>
 *   <li>{@code decode:B}: new tokens a second over B sequences, sampling included. Options: {@code
 *       prompt} (16), {@code shared} (false): whether all have one prompt, read once; {@code
 *       tokens}, {@code plan} (a file), {@code temperature} (0, or 1 where the next two are given),
 *       {@code top_p}, {@code top_k}
 *   <li>{@code step:B}: the same, with one step in the middle as the {@link ProfiledRange}
 *   <li>{@code prefill:P}: prompt tokens a second of one prompt, up to and including its first token
 *   <li>{@code prompt:P}: the same, all of it the {@link ProfiledRange}
 *   <li>{@code capture:P}: the same, all its tokens captured at {@code sites} ({@code
 *       blocks.*.hook_resid_post})
 *   <li>{@code plans:K}: new tokens a second, whole run, of requests that are steered by K distinct
 *       plans in turn, each of which adds a vector of its own at scale 0 after every block; K = 0
 *       is no plan. Options: {@code requests} (256), {@code prompt}, {@code tokens}
 *   <li>{@code first:K}: first tokens a second of K distinct plans on one prompt, which add a vector
 *       after the middle block from the prompt's last token on. Options: {@code prompt} (16), {@code
 *       shared} (false): whether its beginning is read once; {@code from} (none): plans clamp a
 *       neuron at all tokens of the block that is at this share of the depth, so that all is shared
 *       below it, and above it nothing
 * </ul>
 *
 * <p>Loading is not part of any.
 *
 * <pre>{@code
 * java -Dhalter.native=target/native -cp bench/target/benchmarks.jar dev.halter.bench.Figures \
 *     MODEL DEVICE DTYPE THREADS TOKENS RUNS [CONTEXT MAX_BATCH]
 * }</pre>
 */
public final class Figures {
  private static final int PROMPT = 16;

  private final LanguageModel model;
  private final Engine engine;
  private final int tokens;
  private int prompts; // that nobody has had before

  private Figures(LanguageModel model, int tokens) {
    this.model = model;
    this.engine = model.engine();
    this.tokens = tokens;
  }

  public static void main(String[] args) throws IOException {
    int context = args.length > 6 ? Integer.parseInt(args[6]) : 2048;
    int maxBatch = args.length > 7 ? Integer.parseInt(args[7]) : 128;
    try (LanguageModel model =
        BenchModel.open(
            Path.of(args[0]), args[1], args[2], Integer.parseInt(args[3]), context, maxBatch)) {
      Figures figures = new Figures(model, Integer.parseInt(args[4]));
      String facts =
          "\"unit\":\"tokens/s\",\"engine\":\"halter\",\"device\":\"%s\",\"dtype\":\"%s\""
              .formatted(
                  model.device().description(),
                  model.llama().type().name().toLowerCase(Locale.ROOT));
      Turns.take(Integer.parseInt(args[5]), facts, figures::rate);
    }
  }

  private double rate(String figure) {
    String[] parts = figure.split(",");
    String[] kind = parts[0].split(":", 2);
    int size = Integer.parseInt(kind[1]);
    Map<String, String> options = new HashMap<>();
    for (int i = 1; i < parts.length; i++) {
      String[] option = parts[i].split("=", 2);
      options.put(option[0], option[1]);
    }
    int prompt = Integer.parseInt(options.getOrDefault("prompt", "" + PROMPT));
    int count = Integer.parseInt(options.getOrDefault("tokens", "" + tokens));
    return switch (kind[0]) {
      case "decode" -> decode(size, prompt, count, options, false);
      case "step" -> decode(size, prompt, count, options, true);
      case "prefill" -> prefill(size, List.of());
      case "prompt" -> {
        ProfiledRange.start();
        double rate = prefill(size, List.of());
        ProfiledRange.stop();
        yield rate;
      }
      case "capture" ->
          prefill(
              size,
              Site.expand(
                  options.getOrDefault("sites", "blocks.*.hook_resid_post"), model.config()));
      case "plans" ->
          plans(
              size, Integer.parseInt(options.getOrDefault("requests", "256")), prompt, count);
      case "first" -> first(size, prompt, options);
      default -> throw new IllegalArgumentException("unknown figure " + figure);
    };
  }

  private static boolean isShared(Map<String, String> options) {
    return options.getOrDefault("shared", "false").equals("true");
  }

  private double decode(
      int batch, int prompt, int count, Map<String, String> options, boolean profiled) {
    int rows = model.llama().limits().rows();
    boolean shared = isShared(options);
    if (batch > 1 && !shared && batch * prompt > rows) {
      throw new IllegalArgumentException(
          "%d prompts of %d tokens are more than one step of %d: they would not start together"
              .formatted(batch, prompt, rows));
    }
    SteeringPlan plan =
        options.containsKey("plan")
            ? SteeringPlan.read(Path.of(options.get("plan")), model.config())
            : SteeringPlan.NONE;
    boolean cuts = options.containsKey("top_p") || options.containsKey("top_k");
    Sampling sampling =
        new Sampling(
            Float.parseFloat(options.getOrDefault("temperature", cuts ? "1" : "0")),
            Integer.parseInt(options.getOrDefault("top_k", "0")),
            Float.parseFloat(options.getOrDefault("top_p", "1")),
            1);
    long[] times = new long[2];
    int[] heard = {0};
    int middle = batch * (count / 2);
    List<Request> requests = new ArrayList<>();
    for (int i = 0; i < batch; i++) {
      Request.Listener listener =
          token -> {
            times[heard[0] < batch ? 0 : 1] = System.nanoTime();
            heard[0]++;
            if (profiled && heard[0] == middle) {
              ProfiledRange.start();
            } else if (profiled && heard[0] == middle + batch) {
              ProfiledRange.stop();
            }
          };
      requests.add(
          Request.of(prompt(prompt, shared ? 0 : i))
              .withMaxTokens(count + 1)
              .with(sampling)
              .with(plan)
              .with(listener));
    }
    if (shared) {
      try (Engine sharing = new Engine(model.llama(), true)) {
        sharing.run(requests).forEach(result -> result.orThrow());
      }
    } else {
      engine.run(requests).forEach(result -> result.orThrow());
    }
    return batch * count / ((times[1] - times[0]) / 1e9);
  }

  private double prefill(int length, List<Site> sites) {
    Request request = Request.of(prompt(length, 0)).withMaxTokens(1);
    long start = System.nanoTime();
    if (!sites.isEmpty()) {
      request = request.with(new Capture(model.config(), sites, length));
    }
    engine.run(request).orThrow();
    return length / ((System.nanoTime() - start) / 1e9);
  }

  private double plans(int distinct, int requests, int prompt, int count) {
    List<SteeringPlan> plans = new ArrayList<>();
    for (int i = 0; i < distinct; i++) {
      plans.add(unmoving(i));
    }
    List<Request> all = new ArrayList<>();
    for (int i = 0; i < requests; i++) {
      Request request = Request.of(prompt(prompt, i)).withMaxTokens(count);
      all.add(distinct == 0 ? request : request.with(plans.get(i % distinct)));
    }
    long start = System.nanoTime();
    engine.run(all).forEach(result -> result.orThrow());
    return (double) requests * count / ((System.nanoTime() - start) / 1e9);
  }

  private double first(int distinct, int length, Map<String, String> options) {
    boolean shared = isShared(options);
    int[] prompt = prompt(length, 1000 + prompts++);
    double from = Double.parseDouble(options.getOrDefault("from", "1"));
    List<Request> requests = new ArrayList<>();
    for (int i = 0; i < distinct; i++) {
      SteeringPlan plan = from < 1 ? clampedFrom(from, i) : addedAtTheEnd(i);
      requests.add(Request.of(prompt).withMaxTokens(1).with(plan));
    }
    try (Engine other = new Engine(model.llama(), shared)) {
      long start = System.nanoTime();
      other.run(requests).forEach(result -> result.orThrow());
      return distinct / ((System.nanoTime() - start) / 1e9);
    }
  }

  private SteeringPlan addedAtTheEnd(int number) {
    Site middle = new Site(Site.Kind.RESID_POST, model.config().nLayers() / 2);
    return SteeringPlan.of(new Edit.Add(middle, vector(new Random(number)), 1))
        .when(Trigger.FROM_LAST);
  }

  private SteeringPlan clampedFrom(double depth, int number) {
    Site site = new Site(Site.Kind.POST, (int) (depth * model.config().nLayers()));
    return SteeringPlan.of(Edit.clamp(site, number, 1));
  }

  private float[] vector(Random random) {
    float[] vector = new float[model.config().dModel()];
    for (int i = 0; i < vector.length; i++) {
      vector[i] = random.nextFloat() - 0.5f;
    }
    return vector;
  }

  /** A plan that costs what steering costs, and leaves the text as it is. */
  private SteeringPlan unmoving(int number) {
    Random random = new Random(number);
    List<SteeringPlan.Intervention> interventions = new ArrayList<>();
    for (int layer = 0; layer < model.config().nLayers(); layer++) {
      Edit edit = new Edit.Add(new Site(Site.Kind.RESID_POST, layer), vector(random), 0);
      interventions.add(new SteeringPlan.Intervention(edit, Trigger.ALWAYS));
    }
    return new SteeringPlan("plan " + number, interventions);
  }

  private int[] prompt(int length, int seed) {
    return new Random(seed).ints(length, 3, model.config().vocabularySize()).toArray();
  }
}
