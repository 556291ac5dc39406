package dev.halter.patching;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.pictures.HeatMap;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.OptionalDouble;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Files of grids: names of columns, shapes, and their picture. */
class GridFileTest {
  private static final String GRID =
      """
      {"site": "hook_z", "per_head": true, "pairs": 1, "positions": [-2, -1],
       "tokens": [" dog", null], "relative": [[[0.1, -0.2], [0, 0]], [[0, 0], [0.4, null]]],
       "delta_logit": [[[1, -2], [0, 0]], [[0, 0], [4, null]]], "reference_logit": -10.0}
      """;

  private static JsonObject json(String text) {
    return JsonObject.parse(Path.of("grid.json"), text.getBytes(StandardCharsets.UTF_8));
  }

  @Test
  void aPanelForEachLayerHasHeadsDownAndTokensAcross() {
    assertTrue(GridFile.isOne(json(GRID)));
    assertFalse(GridFile.isOne(json("{\"heads\": []}")));
    GridFile grid = GridFile.of(json(GRID));
    HeatMap picture =
        EffectsPicture.of(grid, EffectsPicture.Value.RELATIVE, OptionalDouble.empty());
    assertEquals(2, picture.panels().size());
    HeatMap.Panel last = picture.panels().get(1);
    assertEquals("Layer 1", last.title());
    assertEquals(List.of("0", "1"), last.rows());
    assertEquals(List.of("−2 ␣dog", "−1"), last.columns());
    assertEquals(40, last.values()[1][0], 1e-9);
    assertTrue(Double.isNaN(last.values()[1][1]));
    assertEquals(40, picture.scale().limit(), 1e-9, "one scale for all layers");
    assertTrue(picture.notes().get(1).startsWith("Orange"), "of a negative logit");
  }

  @Test
  void layersAreRowsWhereHeadsWentTogether() {
    String together =
        GRID.replace("true", "false")
            .replaceAll("\\[\\[\\[(.*?)], \\[.*?]], \\[\\[.*?], \\[(.*?)]]]", "[[$1], [$2]]");
    HeatMap picture =
        EffectsPicture.of(
            GridFile.of(json(together)), EffectsPicture.Value.DELTA_LOGIT, OptionalDouble.empty());
    HeatMap.Panel panel = picture.panels().getFirst();
    assertEquals(1, picture.panels().size());
    assertEquals(-2, panel.values()[0][1]);
    assertEquals(4, panel.values()[1][0]);
    assertTrue(picture.notes().get(1).startsWith("Blue"));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "[\" dog\", null] | [\" dog\"] | tokens",
        "[-2, -1] | [] | positions",
        "[-2, -1] | [-2, null] | positions",
        "[0.4, null] | [0.4] | relative",
        "[[1, -2], [0, 0]] | [1, -2] | delta_logit",
        "\"pairs\": 1 | \"pairs\": 0 | pairs"
      })
  void otherShapesAreNamed(String good, String bad, String key) {
    String text = GRID.replace(good, bad);
    BadFileException error = assertThrows(BadFileException.class, () -> GridFile.of(json(text)));
    assertTrue(error.getMessage().contains("\"" + key + "\""), error.getMessage());
  }
}
