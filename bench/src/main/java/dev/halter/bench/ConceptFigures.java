package dev.halter.bench;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.device.Graph;
import dev.halter.sparse.CodingPlan;
import dev.halter.sparse.Dictionary;
import dev.halter.sparse.DictionaryFile;
import dev.halter.sparse.Solver;
import dev.halter.sparse.SparseCoder;
import dev.halter.sparse.Vectors;
import java.io.IOException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * Halter's side of {@code bench/concepts}: vectors a second that are coded over a dictionary, from
 * vectors on the device to codes on the device. A figure:
 *
 * <ul>
 *   <li>{@code omp:K:HOW} and {@code net:ALPHA:TAU:HOW}: all vectors at once; HOW is {@code
 *       products}, {@code gram} or {@code auto}
 *   <li>{@code decode:HOW:omp:K} and {@code decode:HOW:net:ALPHA:TAU}: one vector, as a layer of a
 *       decode step does it, through a recorded graph; for a pursuit HOW may also be {@code rounds},
 *       {@code block} or {@code cluster}: from the Gram matrix by this {@code -Dhalter.pursuit}
 *   <li>{@code step:HOW:...}: the same, once, in the part of the run that a profiler looks at
 * </ul>
 *
 * <p>The first run of a figure, which is thrown away, makes what is kept: kernels, and the rows of
 * the Gram matrix.
 *
 * <pre>{@code
 * java -Dhalter.native=target/native -cp bench/target/benchmarks.jar dev.halter.bench.ConceptFigures \
 *     DEVICE FILE THREADS RUNS
 * }</pre>
 */
public final class ConceptFigures {
  private static final Set<String> PURSUITS = Set.of("rounds", "block", "cluster");

  private final Device device;
  private final Dictionary dictionary;
  private final Buffer vectors;
  private final int rows;
  private final Map<String, SparseCoder> coders = new HashMap<>();
  private final Map<String, Graph> graphs = new HashMap<>();

  private ConceptFigures(Device device, Dictionary dictionary, float[] vectors) {
    this.device = device;
    this.dictionary = dictionary;
    this.rows = vectors.length / dictionary.width();
    this.vectors = device.allocate(4L * vectors.length);
    this.vectors.set(vectors);
  }

  public static void main(String[] args) throws IOException {
    Path path = Path.of(args[1]);
    try (Device device = Devices.open(args[0], Integer.parseInt(args[2]), true);
        DictionaryFile file = DictionaryFile.open(path);
        Dictionary dictionary = file.load(device)) {
      ConceptFigures figures =
          new ConceptFigures(
              device, dictionary, Vectors.read(path + "#vectors", dictionary.width()));
      String facts =
          "\"unit\":\"vectors/s\",\"engine\":\"halter\",\"device\":\"%s\""
              .formatted(device.description());
      Turns.take(Integer.parseInt(args[3]), facts, figures::measure);
    }
  }

  private double measure(String figure) {
    String[] parts = figure.split(":");
    boolean profiled = parts[0].equals("step");
    boolean decode = parts[0].equals("decode") || profiled;
    String[] solver = decode ? figure.split(":", 3)[2].split(":") : parts;
    String how = decode ? parts[1] : parts[parts.length - 1];
    int together = decode ? 1 : rows;
    SparseCoder coder = coders.computeIfAbsent(figure, f -> coder(solver(solver), how, together));
    long start = System.nanoTime();
    if (decode) {
      if (!graphs.containsKey(figure)) {
        code(coder, 1); // makes what the graph uses
        graphs.put(figure, device.record(() -> code(coder, 1)));
      }
      if (profiled) {
        ProfiledRange.start();
      }
      graphs.get(figure).launch();
    } else {
      code(coder, rows);
    }
    device.synchronize();
    if (profiled) {
      ProfiledRange.stop();
    }
    return together / ((System.nanoTime() - start) / 1e9);
  }

  private void code(SparseCoder coder, int count) {
    int width = dictionary.width();
    for (int from = 0; from < count; from += coder.plan().rows()) {
      int some = Math.min(coder.plan().rows(), count - from);
      coder.enqueue(vectors.slice(4L * from * width), width, some, null);
    }
  }

  private static Solver solver(String[] parts) {
    return parts[0].equals("omp")
        ? new Solver.Omp(Integer.parseInt(parts[1]), 0)
        : new Solver.ElasticNet(Double.parseDouble(parts[1]), Double.parseDouble(parts[2]));
  }

  private SparseCoder coder(Solver solver, String how, int together) {
    if (PURSUITS.contains(how)) {
      System.setProperty("halter.pursuit", how);
      try {
        return coder(solver, "gram", together);
      } finally {
        System.clearProperty("halter.pursuit");
      }
    }
    CodingPlan plan =
        how.equals("auto")
            ? CodingPlan.of(dictionary, solver, together, Long.MAX_VALUE)
            : CodingPlan.of(
                dictionary,
                solver,
                together,
                CodingPlan.Correlations.valueOf(how.toUpperCase(Locale.ROOT)));
    System.err.println("plan: " + plan);
    return new SparseCoder(dictionary, solver, plan);
  }
}
