package dev.halter.files;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class GrowingFileTest {
  @TempDir Path folder;

  @Test
  void goesOnAfterTheLastWholeLine() throws IOException {
    Path path = folder.resolve("lines");
    try (GrowingFile file = new GrowingFile(path, 100)) {
      assertEquals("", file.lines() + file.rest());
      file.append("one ö\n");
      assertEquals("one ö\n", Files.readString(path), "on disk at once");
      file.append("tw"); // as a kill leaves it
    }
    try (GrowingFile file = new GrowingFile(path, 100)) {
      assertEquals("one ö\n", file.lines());
      assertEquals("tw", file.rest());
      assertEquals("one ö\ntw", Files.readString(path), "nothing is taken away unasked");
      file.keepLines();
      file.append("2\n");
    }
    assertEquals("one ö\n2\n", Files.readString(path));
  }

  @Test
  void refusesASecondWriterAndTooLongAFile() throws IOException {
    Path path = folder.resolve("lines");
    try (GrowingFile file = new GrowingFile(path, 100)) {
      assertError(path, 100, "another process writes to it");
      file.append("0123456789\n");
      assertEquals("0123456789\n", Files.readString(path));
    }
    assertError(path, 10, "larger than 10 bytes");
    try (GrowingFile file = new GrowingFile(path, 11)) {
      assertEquals("0123456789\n", file.lines());
    }
    assertError(folder.resolve("none/lines"), 10, "cannot be written");
  }

  @Test
  void aFileThatIsRemovedOrReplacedIsAnError() throws IOException {
    for (boolean replaced : new boolean[] {false, true}) {
      Path path = folder.resolve("gone" + replaced);
      try (GrowingFile file = new GrowingFile(path, 100)) {
        file.append("one\n");
        Files.move(path, folder.resolve("elsewhere" + replaced));
        if (replaced) {
          Files.writeString(path, "");
        }
        String message =
            assertThrows(UncheckedIOException.class, () -> file.append("two\n")).getMessage();
        assertTrue(message.contains("removed or replaced"), message);
      }
    }
  }

  private static void assertError(Path path, int mostBytes, String said) {
    String message =
        assertThrows(UncheckedIOException.class, () -> new GrowingFile(path, mostBytes).close())
            .getMessage();
    assertTrue(message.startsWith(path.toString()) && message.contains(said), message);
  }
}
