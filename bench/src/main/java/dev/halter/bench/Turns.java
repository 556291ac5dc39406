package dev.halter.bench;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.ToDoubleFunction;

/**
 * The Java side of {@code bench/python/turns.py}: reads figures from standard input, one a line, and
 * answers each with a line of JSON. {@code bench/python/peer.py} keeps the same rules for Python.
 *
 * <p>A figure is taken when it is warm: runs go on until two in a row agree within 3 %, and these two
 * are the first that count. A JVM that has just started makes its first tokens at a third of the
 * speed. A figure that a profiler watches, {@code step:…} or {@code prompt:…}, is run once. One that
 * fails is answered with what failed, and the next one is read.
 */
final class Turns {
  private static final double AGREEMENT = 0.03;
  private static final int MOST_RUNS = 8;
  private static final double MOST_SECONDS = 20;

  private Turns() {}

  /** Results of a figure: those that count, those before, and whether the last two agreed. */
  record Taken(List<Double> runs, List<Double> warmup, boolean settled) {
    double median() {
      List<Double> sorted = runs.stream().sorted().toList();
      int middle = sorted.size() / 2;
      return sorted.size() % 2 == 1
          ? sorted.get(middle)
          : (sorted.get(middle - 1) + sorted.get(middle)) / 2;
    }
  }

  /**
   * Serves until standard input ends.
   *
   * @param runs of each figure that count, at least
   * @param facts further members of every answer, as JSON without braces
   * @param measure runs a figure once and returns its rate or time
   */
  static void take(int runs, String facts, ToDoubleFunction<String> measure) throws IOException {
    try (BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
      for (String line = in.readLine(); line != null; line = in.readLine()) {
        String figure = line.strip();
        System.out.println(answer(figure, runs, facts, measure));
      }
    }
  }

  private static String answer(
      String figure, int runs, String facts, ToDoubleFunction<String> measure) throws IOException {
    try {
      Taken taken = take(figure, runs, measure);
      return String.format(
          Locale.ROOT,
          "{\"figure\":%s,\"median\":%s,\"runs\":%s,\"warmup\":%s,\"settled\":%s,%s,"
              + "\"peak_rss_bytes\":%d}",
          quoted(figure),
          taken.median(),
          taken.runs,
          taken.warmup,
          taken.settled,
          facts,
          peakResident());
    } catch (RuntimeException | OutOfMemoryError e) {
      e.printStackTrace();
      String error = e.getClass().getSimpleName() + ": " + e.getMessage();
      return "{\"figure\":%s,\"error\":%s}".formatted(quoted(figure), quoted(error));
    }
  }

  private static Taken take(String figure, int runs, ToDoubleFunction<String> measure) {
    List<Double> results = new ArrayList<>();
    long start = System.nanoTime();
    boolean settled = false;
    if (figure.startsWith("step:") || figure.startsWith("prompt:")) {
      return new Taken(List.of(measure.applyAsDouble(figure)), List.of(), false);
    }
    do {
      results.add(measure.applyAsDouble(figure));
      int count = results.size();
      if (count > 1) {
        double last = results.get(count - 1);
        settled = Math.abs(last - results.get(count - 2)) <= AGREEMENT * Math.abs(last);
      }
    } while (!settled
        && results.size() < MOST_RUNS
        && (System.nanoTime() - start) / 1e9 < MOST_SECONDS);
    int counted = Math.max(0, results.size() - 2);
    while (results.size() - counted < runs) {
      results.add(measure.applyAsDouble(figure));
    }
    return new Taken(
        results.subList(counted, results.size()), results.subList(0, counted), settled);
  }

  private static String quoted(String text) {
    StringBuilder json = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\') {
        json.append('\\').append(c);
      } else if (c < ' ') {
        json.append("\\u%04x".formatted((int) c));
      } else {
        json.append(c);
      }
    }
    return json.append('"').toString();
  }

  /** Most memory that this process has had in RAM, mapped weights included; -1 if unknown. */
  static long peakResident() throws IOException {
    Path status = Path.of("/proc/self/status");
    if (!Files.exists(status)) {
      return -1;
    }
    for (String line : Files.readAllLines(status)) {
      if (line.startsWith("VmHWM:")) {
        return Long.parseLong(line.replaceAll("\\D", "")) * 1024;
      }
    }
    return -1;
  }
}
