package dev.halter.bench;

import dev.halter.generation.Engine;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.steering.SteeringPlan;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.Set;

/**
 * Halter's side of {@code bench/compare}: reads figures from standard input, one a line, and answers
 * each with a line of JSON, like {@code bench/python/generate.py -}.
 *
 * <p>{@code decode:B}: new tokens a second over B sequences, greedy, after a prompt of 16, sampling
 * included; {@code decode:B:TOKENS:PLAN} the same with another number of tokens, steered by a plan's
 * file. {@code prefill:P}: prompt tokens a second of one prompt, up to and including its first
 * token. Loading is not part of either; a first run of each is thrown away.
 *
 * <pre>{@code
 * java -Dhalter.native=target/native -cp bench/target/benchmarks.jar dev.halter.bench.Figures \
 *     MODEL DEVICE DTYPE THREADS TOKENS RUNS
 * }</pre>
 */
public final class Figures {
  private static final int PROMPT = 16;

  private final LanguageModel model;
  private final Engine engine;
  private final int tokens;

  private Figures(LanguageModel model, int tokens) {
    this.model = model;
    this.engine = model.engine();
    this.tokens = tokens;
  }

  public static void main(String[] args) throws IOException {
    LanguageModel.Options options =
        new LanguageModel.Options(
            Path.of(args[0]), args[1], args[2], Integer.parseInt(args[3]), 2048, 128);
    try (LanguageModel model = LanguageModel.open(options)) {
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
    String[] parts = figure.split(":", 4);
    int size = Integer.parseInt(parts[1]);
    return switch (parts[0]) {
      case "decode" ->
          parts.length < 4
              ? decode(size, tokens, SteeringPlan.NONE)
              : decode(
                  size,
                  Integer.parseInt(parts[2]),
                  SteeringPlan.read(Path.of(parts[3]), model.config()));
      case "prefill" -> prefill(size);
      default -> throw new IllegalArgumentException("unknown figure " + figure);
    };
  }

  private double decode(int batch, int count, SteeringPlan plan) {
    long[] times = new long[2];
    int[] heard = {0};
    List<Request> requests = new ArrayList<>();
    for (int i = 0; i < batch; i++) {
      requests.add(
          Request.greedy("", prompt(PROMPT, i), count + 1, Set.of())
              .with(plan)
              .with(
                  (token, logProbability, logits) -> {
                    times[heard[0] < batch ? 0 : 1] = System.nanoTime();
                    heard[0]++;
                  }));
    }
    engine.run(requests).forEach(result -> result.orThrow());
    return batch * count / ((times[1] - times[0]) / 1e9);
  }

  private double prefill(int length) {
    long start = System.nanoTime();
    engine.run(Request.greedy("", prompt(length, 0), 1, Set.of())).orThrow();
    return length / ((System.nanoTime() - start) / 1e9);
  }

  private int[] prompt(int length, int seed) {
    return new Random(seed).ints(length, 3, model.config().vocabularySize()).toArray();
  }
}
