package dev.halter.text;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SpellingTest {
  private static final List<String> NAMES =
      List.of("generate", "capture", "map", "heads", "--prompt", "--plan", "--max-tokens", "/off");

  @ParameterizedTest
  @CsvSource({
    "genrate, generate",
    "genreate, generate",
    "Generate, generate",
    "capt, capture",
    "mpa, map",
    "head, heads",
    "--promt, --prompt",
    "--plam, --plan",
    "--max_tokens, --max-tokens",
    "/fof, /off",
    "dance,",
    "x,",
    "--temperature,",
  })
  void whatWasMeantIsNearOrGoesOn(String word, String meant) {
    assertEquals(Optional.ofNullable(meant), Spelling.meant(word, NAMES));
  }

  @Test
  void theNearestIsAlwaysThereButForVeryLongWords() {
    assertEquals(Optional.of("map"), Spelling.nearest("dog", NAMES));
    assertEquals(Optional.empty(), Spelling.nearest("dog".repeat(100), NAMES));
    assertEquals(Optional.empty(), Spelling.nearest("dog", List.of()));
  }
}
