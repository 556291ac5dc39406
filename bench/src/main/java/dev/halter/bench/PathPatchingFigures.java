package dev.halter.bench;

import dev.halter.generation.LanguageModel;
import dev.halter.patching.Pair;
import dev.halter.patching.PathPatching;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Random;

/**
 * Halter's side of {@code bench/heads}: path patching of every head and MLP to the logits.
 *
 * <p>{@code sweep:P:T}: heads times pairs a second, over P pairs of T random tokens that share no
 * prefix, the two forward passes of each pair included. {@code probability:P:T}: the same with the
 * answer's probability.
 *
 * <pre>{@code
 * java -Dhalter.native=target/native -cp bench/target/benchmarks.jar \
 *     dev.halter.bench.PathPatchingFigures MODEL DEVICE DTYPE THREADS RUNS
 * }</pre>
 */
public final class PathPatchingFigures {
  private PathPatchingFigures() {}

  public static void main(String[] args) throws IOException {
    try (LanguageModel model =
        BenchModel.open(Path.of(args[0]), args[1], args[2], Integer.parseInt(args[3]), 1024, 64)) {
      String facts =
          "\"unit\":\"heads x pairs/s\",\"engine\":\"halter\",\"device\":\"%s\",\"dtype\":\"%s\""
              .formatted(
                  model.device().description(),
                  model.llama().type().name().toLowerCase(Locale.ROOT));
      Turns.take(Integer.parseInt(args[4]), facts, figure -> rate(model, figure));
    }
  }

  private static double rate(LanguageModel model, String figure) {
    String[] parts = figure.split(":");
    List<Pair> pairs = pairs(model, Integer.parseInt(parts[1]), Integer.parseInt(parts[2]));
    boolean probability = parts[0].equals("probability");
    long start = System.nanoTime();
    PathPatching.of(
        model.llama(), pairs, PathPatching.Variant.RECOMPUTE, probability, done -> {});
    double seconds = (System.nanoTime() - start) / 1e9;
    return (double) pairs.size() * model.config().nLayers() * model.config().nHeads() / seconds;
  }

  private static List<Pair> pairs(LanguageModel model, int count, int tokens) {
    Random random = new Random(1);
    int vocabulary = model.config().vocabularySize();
    List<Pair> pairs = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      int[] reference = random.ints(tokens, 3, vocabulary).toArray();
      int[] counterfactual = random.ints(tokens, 3, vocabulary).toArray();
      counterfactual[0] = reference[0] % (vocabulary - 3) + 3;
      int answer = random.nextInt(3, vocabulary);
      pairs.add(
          new Pair(reference, counterfactual, answer, OptionalInt.empty(), Map.of(), null));
    }
    return pairs;
  }
}
