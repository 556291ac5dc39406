package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.pictures.HeatMap;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the pages of {@code dev.halter.pictures} show. */
class PicturesSnippetsTest {
  @Test
  void heatMap(@TempDir Path folder) throws Exception {
    Path file = folder.resolve("effects.svg");
    // @start region="heat-map"
    List<HeatMap.Panel> panels =
        List.of(
            new HeatMap.Panel(
                "Heads",
                "layer",
                "head",
                List.of("0", "1"),
                List.of("0", "1", "2"),
                new double[][] {{0.5, -1, 0}, {0, 2, Double.NaN}}));
    HeatMap.Scale scale = HeatMap.Scale.of(true, "logits", 1, panels);
    new HeatMap("Effects of heads", List.of("made up"), scale, panels).write(file);
    // @end
    assertTrue(Files.readString(file).contains("Effects of heads"));
  }
}
