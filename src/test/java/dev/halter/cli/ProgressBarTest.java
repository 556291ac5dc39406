package dev.halter.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.Test;

class ProgressBarTest {
  private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
  private long now;

  /** What is printed when each of {@code total} pieces takes so many milliseconds. */
  private String printed(boolean terminal, int total, long milliseconds) {
    PrintStream out = new PrintStream(bytes, true, StandardCharsets.UTF_8);
    try (ProgressBar bar = new ProgressBar("map", total, terminal, out, () -> now)) {
      for (int done = 1; done <= total; done++) {
        now += 1_000_000 * milliseconds;
        bar.at(done);
      }
    }
    return bytes.toString(StandardCharsets.UTF_8);
  }

  @Test
  void aTerminalShowsABarInOneLine() {
    String bar = printed(true, 100, 50);
    assertTrue(bar.startsWith("\rmap [" + ".".repeat(30) + "] 1/100  20.0/s"), bar);
    assertTrue(bar.contains("[" + "#".repeat(30) + "] 100/100"), bar);
    assertEquals(51, bar.chars().filter(c -> c == '\r').count(), "ten a second");
    assertTrue(bar.endsWith("\n"));
  }

  @Test
  void figuresOfTheWorkTakeThePlaceOfItsRate() {
    PrintStream out = new PrintStream(bytes, true, StandardCharsets.UTF_8);
    try (ProgressBar bar = new ProgressBar("tune", 2, true, out, () -> now)) {
      now = 4_000_000_000L;
      bar.at(1, seconds -> "loss 12.5, %.0f s left".formatted(seconds));
      now = 5_000_000_000L;
      bar.at(2, seconds -> "loss 9");
    }
    String[] bars = bytes.toString(StandardCharsets.UTF_8).strip().split("\r");
    assertTrue(bars[0].endsWith("] 1/2  loss 12.5, 4 s left "), bars[0]);
    assertTrue(bars[1].contains("] 2/2  loss 9"), bars[1]);
    bytes.reset();
    try (ProgressBar bar = new ProgressBar("tune", 2, false, out, () -> now)) {
      now += 20_000_000_000L;
      bar.at(1, seconds -> "loss 9");
    }
    assertEquals("tune: 1 of 2 (50%), loss 9", bytes.toString(StandardCharsets.UTF_8).strip());
  }

  /** What a shorter line leaves of a longer one is wiped out. */
  @Test
  void barsCoverOneAnother() {
    PrintStream out = new PrintStream(bytes, true, StandardCharsets.UTF_8);
    try (ProgressBar bar = new ProgressBar("tune", 2, true, out, () -> now)) {
      bar.at(1, seconds -> "a long figure");
      now = 1_000_000_000L;
      bar.at(2, seconds -> "short");
    }
    String[] bars = bytes.toString(StandardCharsets.UTF_8).split("[\r\n]+");
    assertEquals(bars[1].length(), bars[2].length());
  }

  @Test
  void shortWorkIsDoneInSilenceElsewhere() {
    assertEquals("", printed(false, 100, 90));
  }

  @Test
  void longWorkSaysATenthInALine() {
    List<String> lines = printed(false, 1000, 200).lines().toList();
    assertEquals("map: 100 of 1,000 (10%), 5.0/s", lines.getFirst());
    assertEquals("map: 1,000 of 1,000 (100%), 5.0/s", lines.getLast());
    assertEquals(10, lines.size(), lines.toString());
    assertFalse(lines.toString().contains("\r"));
  }

  @Test
  void linesAreTenSecondsApartAndNoMoreThanAMinute() {
    // Half a second a tenth: a line each ten seconds would be too much of nothing new.
    assertEquals(2, printed(false, 20, 1000).lines().count());
    bytes.reset();
    now = 0;
    // A tenth takes ten minutes: each minute tells that it goes on.
    assertEquals(100, printed(false, 100, 60_000).lines().count());
  }
}
