package dev.halter.patching;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.BadFileException;
import dev.halter.model.Head;
import dev.halter.pictures.HeatMap;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.OptionalDouble;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Files of effects: order of heads, shapes, and their picture. */
class EffectsFileTest {
  private static final String EFFECTS =
      """
      {"variant": "frozen", "pairs": 7, "heads": [[-0.1, 0.02, null], [-0.3, 0.5, 0]],
       "delta_logit": [[-2, 0.4, null], [-6, 10, 0]], "mlps": [0.1, -0.2],
       "mlp_delta_logit": [2, -4], "reference_logit": 20.0, "more": {"is": "left alone"}}
      """;

  @TempDir Path folder;

  private EffectsFile read(String text) throws IOException {
    return EffectsFile.read(Files.writeString(folder.resolve("effects.json"), text));
  }

  @Test
  void theHeadsThatTheAnswerNeedsMostComeFirst() throws IOException {
    EffectsFile effects = read(EFFECTS);
    assertEquals(List.of(new Head(1, 0), new Head(0, 0), new Head(1, 2)), effects.top(3));
    IllegalArgumentException error =
        assertThrows(IllegalArgumentException.class, () -> effects.top(6));
    assertTrue(error.getMessage().contains("1 to 5"), "one was not measured: " + error);
  }

  @Test
  void picturesShowPercentOrLogits() throws IOException {
    HeatMap relative =
        EffectsPicture.of(read(EFFECTS), EffectsPicture.Value.RELATIVE, OptionalDouble.empty());
    assertEquals(-30, relative.panels().get(0).values()[1][0], 1e-9);
    assertEquals(-20, relative.panels().get(1).values()[1][0], 1e-9);
    assertTrue(Double.isNaN(relative.panels().get(0).values()[0][2]));
    assertEquals(50, relative.scale().limit(), 1e-9);
    assertTrue(relative.notes().get(1).startsWith("Blue"), relative.notes().toString());
    HeatMap logits =
        EffectsPicture.of(read(EFFECTS), EffectsPicture.Value.DELTA_LOGIT, OptionalDouble.of(3));
    assertEquals(-6, logits.panels().get(0).values()[1][0], 1e-9);
    assertEquals(3, logits.scale().limit());
    String negative = EFFECTS.replace("20.0", "-20.0");
    HeatMap turned =
        EffectsPicture.of(read(negative), EffectsPicture.Value.RELATIVE, OptionalDouble.empty());
    assertTrue(turned.notes().get(1).startsWith("Orange"), turned.notes().toString());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "[-6, 10, 0]] | [-6, 10]] | delta_logit",
        "[-6, 10, 0]] | [-6, 10, \"x\"]] | delta_logit",
        "[0.1, -0.2] | [0.1] | mlps",
        "\"pairs\": 7 | \"pairs\": 0 | pairs",
        "\"variant\": \"frozen\", | '' | variant"
      })
  void otherShapesAreNamed(String good, String bad, String key) {
    BadFileException error =
        assertThrows(BadFileException.class, () -> read(EFFECTS.replace(good, bad)));
    assertTrue(error.getMessage().contains("\"" + key + "\""), error.getMessage());
  }
}
