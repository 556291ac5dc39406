package dev.halter.bench;

import dev.halter.neurons.NeuronMap;
import dev.halter.neurons.NeuronSearch;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/**
 * Search in a map of the size of Llama-3.1-8B's, made of random tokens: building the index, and one
 * question of two tokens (some 140 neurons).
 *
 * <p>HOW TO RUN: {@code java -jar bench/target/benchmarks.jar NeuronSearchBenchmark}.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Fork(value = 1, jvmArgsAppend = "-Xmx2g")
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
public class NeuronSearchBenchmark {
  private static final int LAYERS = 32;
  private static final int NEURONS = 14_336;
  private static final int VOCABULARY = 128_256;
  private static final int KEPT = 10;

  private NeuronMap map;
  private NeuronSearch search;
  private int token;

  @Setup
  public void make() {
    int rows = LAYERS * NEURONS * 2;
    int[] ids = new SplittableRandom(1).ints((long) rows * KEPT, 0, VOCABULARY).toArray();
    map =
        new NeuronMap(
            new NeuronMap.Settings(
                "random",
                NeuronMap.Projection.UP,
                NeuronMap.Decode.RAW,
                NeuronMap.Sign.BOTH,
                LAYERS,
                NEURONS,
                VOCABULARY,
                KEPT),
            ids,
            new float[ids.length],
            new float[rows],
            new float[LAYERS * NEURONS]);
    search = new NeuronSearch(map);
  }

  @Benchmark
  public NeuronSearch index() {
    return new NeuronSearch(map);
  }

  @Benchmark
  public List<NeuronSearch.Hit> question() {
    token = (token + 7919) % (VOCABULARY - 1);
    return search.byToken(Set.of(token, token + 1), NeuronSearch.Bounds.top(10));
  }
}
