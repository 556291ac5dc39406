package dev.halter.pictures;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.pictures.LineChart.Axis;
import dev.halter.pictures.LineChart.Point;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Axes with round numbers, and points where their numbers are. */
class LineChartTest {
  @TempDir Path folder;

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "-60 | 40 | −60 −40 −20 0 20 40",
        "0 | 0.9165 | 0.0 0.2 0.4 0.6 0.8 1.0",
        "0 | 0.0031 | 0.000 0.001 0.002 0.003 0.004",
        "-3 | 3 | −3 −2 −1 0 1 2 3",
        "5 | 5 | 5 6",
        "0 | 0 | 0.0 0.2",
        "0 | 1e-9 | 0.0e+00 2.0e−10 4.0e−10 6.0e−10 8.0e−10 1.0e−09"
      })
  void ticksAreRoundAndHoldAllValues(double low, double high, String ticks) {
    Axis axis = Axis.around(low, high, 0, 100, low < 0 ? 6 : 5);
    assertEquals(ticks, String.join(" ", axis.ticks().stream().map(axis::text).toList()));
    assertTrue(axis.place(low) >= -1e-9 && axis.place(high) <= 100 + 1e-9);
    assertTrue(axis.place(axis.low()) < axis.place(axis.high()));
  }

  @Test
  void withoutALevelThereIsNone() throws Exception {
    List<Point> points = List.of(new Point(1, 0.5, "first"), new Point(2, 0.25, "second"));
    Path file = folder.resolve("curve.svg");
    new LineChart("Curve", List.of(), "step", "loss", points, Double.NaN, "level").write(file);
    String svg = Files.readString(file);
    assertTrue(svg.contains("<title>first") && svg.contains("<title>second"), svg);
    assertFalse(svg.contains("dasharray") || svg.contains("NaN") || svg.contains("level"), svg);
  }

  @Test
  void pointsAndTheLevelAreWhereTheAxesSay() throws Exception {
    LineChart chart =
        new LineChart(
            "Curve",
            List.of(),
            "value",
            "probability",
            List.of(new Point(-10, 0.5, "low"), new Point(10, 1, "high")),
            0.25,
            "unsteered: 0.25");
    Path file = folder.resolve("curve.svg");
    chart.write(file);
    String svg = Files.readString(file);
    double low = place("cy=\"([0-9.]+)\"[^>]*><title>low", svg);
    double high = place("cy=\"([0-9.]+)\"[^>]*><title>high", svg);
    double level = place("points=\"[0-9.]+,([0-9.]+) [^>]*dasharray", svg);
    assertTrue(high < low && low < level, "up is more");
    assertEquals((low - high) / 2, level - low, 0.05, "a linear axis");
    for (String text : List.of(">−10<", ">10<", ">0.0<", ">1.0<", ">value<", ">unsteered: 0.25<")) {
      assertTrue(svg.contains(text), text + " in " + svg);
    }
    chart.write(folder.resolve("curve.png"));
    assertTrue(Files.size(folder.resolve("curve.png")) > 5000);
  }

  private static double place(String regex, String svg) {
    return java.util.regex.Pattern.compile(regex)
        .matcher(svg)
        .results()
        .mapToDouble(found -> Double.parseDouble(found.group(1)))
        .findFirst()
        .orElseThrow();
  }
}
