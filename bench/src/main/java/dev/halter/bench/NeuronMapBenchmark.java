package dev.halter.bench;

import dev.halter.generation.LanguageModel;
import dev.halter.neurons.NeuronMap;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * The whole neuron map of a model, up-projections, both signs, top 10: seconds from weights in
 * memory to the map. The bare product alone is 2 · neurons · vocabulary · d_model operations.
 *
 * <p>HOW TO RUN: {@code java -Dhalter.native=target/native -jar bench/target/benchmarks.jar
 * NeuronMapBenchmark -p model=DIR}.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.SECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 1, time = 1)
@Measurement(iterations = 3, time = 1)
public class NeuronMapBenchmark {
  @Param({"cpu"})
  public String device;

  @Param({"src/main/models/demo"})
  public String model;

  private LanguageModel opened;

  @Setup
  public void open() {
    opened =
        LanguageModel.open(new LanguageModel.Options(Path.of(model), device, "auto", 0, 64, 1));
  }

  @Benchmark
  public NeuronMap map() {
    return NeuronMap.of(
        opened.llama(),
        NeuronMap.Projection.UP,
        NeuronMap.Decode.RAW,
        NeuronMap.Sign.BOTH,
        10,
        done -> {});
  }

  @TearDown
  public void close() {
    opened.close();
  }
}
