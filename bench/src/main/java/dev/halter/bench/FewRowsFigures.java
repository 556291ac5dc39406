package dev.halter.bench;

import dev.halter.generation.LanguageModel;
import dev.halter.model.TimedFewRows;
import java.io.IOException;
import java.nio.file.Path;

/**
 * Microseconds that a layer's products of few rows take, each kind alone and one after another, by
 * figures {@code PART:ROWS} (see {@link TimedFewRows}).
 *
 * <pre>{@code
 * java -Dhalter.native=target/native -cp bench/target/benchmarks.jar dev.halter.bench.FewRowsFigures \
 *     MODEL RUNS
 * }</pre>
 */
public final class FewRowsFigures {
  private FewRowsFigures() {}

  public static void main(String[] args) throws IOException {
    try (LanguageModel model = BenchModel.open(Path.of(args[0]), "cuda", "bf16", 2, 256, 8)) {
      Turns.take(
          Integer.parseInt(args[1]),
          "\"unit\":\"us\",\"engine\":\"halter\"",
          figure -> {
            String[] parts = figure.split(":");
            int rows = Integer.parseInt(parts[1]);
            try (TimedFewRows timed = new TimedFewRows(model.llama(), parts[0], rows)) {
              return timed.microseconds();
            }
          });
    }
  }
}
