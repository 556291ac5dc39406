package dev.halter.bench;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.function.ToDoubleFunction;

/**
 * The Java side of {@code bench/python/turns.py}: reads figures from standard input, one a line, and
 * answers each with a line of JSON.
 */
final class Turns {
  private Turns() {}

  /**
   * Serves until standard input ends.
   *
   * @param runs of each figure, after one that is thrown away
   * @param facts further members of every answer, as JSON without braces
   * @param measure runs a figure once and returns its rate or time
   */
  static void take(int runs, String facts, ToDoubleFunction<String> measure) throws IOException {
    try (BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
      for (String line = in.readLine(); line != null; line = in.readLine()) {
        String figure = line.strip();
        measure.applyAsDouble(figure);
        double[] results = new double[runs];
        for (int run = 0; run < runs; run++) {
          results[run] = measure.applyAsDouble(figure);
        }
        double[] sorted = results.clone();
        Arrays.sort(sorted);
        System.out.printf(
            "{\"figure\":\"%s\",\"median\":%s,\"runs\":%s,%s,\"peak_rss_bytes\":%d}%n",
            figure, sorted[runs / 2], Arrays.toString(results), facts, peakResident());
      }
    }
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
