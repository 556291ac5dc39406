package dev.halter.pictures;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.WholeFile;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PageTest {
  @TempDir Path folder;

  private List<Path> files() throws IOException {
    try (var files = Files.list(folder)) {
      return files.toList();
    }
  }

  @Test
  void aFileThatFailsHalfwayLeavesTheOldOneAndNothingElse() throws IOException {
    Path file = folder.resolve("rows.csv");
    WholeFile.write(file, out -> out.write("Grüße"));
    assertEquals("Grüße", Files.readString(file));
    assertThrows(
        UncheckedIOException.class,
        () ->
            WholeFile.write(
                file,
                out -> {
                  out.write("half");
                  throw new IOException("disk full");
                }));
    assertThrows(
        IllegalStateException.class,
        () ->
            WholeFile.write(
                file,
                out -> {
                  throw new IllegalStateException("not the disk");
                }));
    assertEquals("Grüße", Files.readString(file));
    assertEquals(List.of(file), files());
    var error =
        assertThrows(
            UncheckedIOException.class,
            () -> WholeFile.write(folder.resolve("no-such-folder/x"), out -> {}));
    assertTrue(error.getMessage().contains("no-such-folder"), error.getMessage());
  }

  @Test
  void noStringOfTheDocumentCanEndItsScript() throws IOException {
    Path file = folder.resolve("page.html");
    Page.write(
        file,
        "atlas",
        out -> {
          out.write("{\"a\":\"</script><!--\",");
          out.append('"').append('<').write("\":1}".toCharArray(), 0, 4);
        });
    String page = Files.readString(file);
    assertTrue(page.contains("{\"a\":\"\\u003c/script>\\u003c!--\",\"\\u003c\":1}"));
    assertFalse(page.contains("/*{"), "a place was not filled");
    assertEquals(page.split("<script").length, page.split("</script>").length);
  }
}
