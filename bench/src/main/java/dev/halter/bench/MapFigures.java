package dev.halter.bench;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.device.Scope;
import dev.halter.generation.LanguageModel;
import dev.halter.model.LlamaWeights;
import dev.halter.neurons.NeuronMap;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Halter's side of {@code bench/map}: maps of the up-projections of a model, raw, 10 tokens kept.
 *
 * <p>{@code map:SIGN} is neurons a second, with the model open; {@code memory:SIGN} the bytes by
 * which the process's memory, files apart, grows meanwhile.
 *
 * <pre>{@code
 * java -Dhalter.native=target/native -cp bench/target/benchmarks.jar dev.halter.bench.MapFigures \
 *     MODEL DEVICE THREADS RUNS
 * }</pre>
 */
public final class MapFigures {
  private static final int KEPT = 10;

  private MapFigures() {}

  public static void main(String[] args) throws IOException {
    Path folder = Path.of(args[0]);
    ModelConfig config = ModelConfig.read(folder);
    try (Device device = Devices.open(args[1], Integer.parseInt(args[2]), true);
        Checkpoint checkpoint = Checkpoint.open(folder);
        Scope scope = device.scope()) {
      DType type = LanguageModel.activations("auto", device, checkpoint);
      NeuronMap.Source source =
          new NeuronMap.Source(
              device, config, checkpoint, LlamaWeights.head(scope, checkpoint, config, type));
      String facts =
          "\"engine\":\"halter\",\"device\":\"%s\"".formatted(device.description());
      Turns.take(
          Integer.parseInt(args[3]),
          facts,
          figure -> {
            String[] parts = figure.split(":");
            NeuronMap.Sign sign = NeuronMap.Sign.valueOf(parts[1].toUpperCase(Locale.ROOT));
            return switch (parts[0]) {
              case "map" -> {
                long start = System.nanoTime();
                map(source, sign);
                double seconds = (System.nanoTime() - start) / 1e9;
                yield config.nLayers() * config.dMlp() / seconds;
              }
              case "memory" -> growth(() -> map(source, sign));
              default -> throw new IllegalArgumentException("unknown figure " + figure);
            };
          });
    }
  }

  private static NeuronMap map(NeuronMap.Source source, NeuronMap.Sign sign) {
    return NeuronMap.of(
        source, NeuronMap.Projection.UP, NeuronMap.Decode.RAW, sign, KEPT, done -> {});
  }

  /** The most by which anonymous memory grows while {@code work} runs, looked at every 2 ms. */
  private static long growth(Runnable work) {
    System.gc();
    long before = anonymous();
    AtomicLong most = new AtomicLong(before);
    AtomicBoolean done = new AtomicBoolean();
    Thread watch =
        Thread.ofPlatform()
            .start(
                () -> {
                  while (!done.get()) {
                    most.accumulateAndGet(anonymous(), Math::max);
                    try {
                      Thread.sleep(2);
                    } catch (InterruptedException e) {
                      return;
                    }
                  }
                });
    work.run();
    done.set(true);
    try {
      watch.join();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
    return most.get() - before;
  }

  private static long anonymous() {
    try {
      for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
        if (line.startsWith("RssAnon:")) {
          return Long.parseLong(line.replaceAll("\\D", "")) * 1024;
        }
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return -1;
  }
}
