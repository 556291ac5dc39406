package dev.halter.text;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class VisibleTextTest {
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '"',
      ignoreLeadingAndTrailingWhitespace = false,
      value = {
        " dog|␣dog",
        "a  b |a␣␣b␣",
        "x\t|x⇥",
        "x\u0000|x⟨0000⟩",
        "\u00a0\u200b|⟨00a0⟩⟨200b⟩",
        "naïve 🐕 中|naïve␣🐕␣中",
        "·_▁|·_▁"
      })
  void whatShowsNothingHasAMark(String text, String visible) {
    assertEquals(visible, VisibleText.of(text));
  }

  @Test
  void noTextIsNamed() {
    assertEquals("⟨empty⟩", VisibleText.of(""));
  }

  @ParameterizedTest
  @CsvSource({"10, ⏎", "13, ␍"})
  void endsOfLinesHaveMarks(int letter, String visible) {
    assertEquals(visible, VisibleText.of(Character.toString(letter)));
  }
}
