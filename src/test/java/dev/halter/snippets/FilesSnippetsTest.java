package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.files.WholeFile;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the pages of {@code dev.halter.files} show. */
class FilesSnippetsTest {
  @Test
  void json(@TempDir Path folder) {
    Path file = folder.resolve("setting.json");
    // @start region="json"
    WholeFile.write(file, out -> out.write(Json.text(Json.object("layers", 4, "name", "demo"))));
    JsonObject json = JsonObject.read(file);
    json.only("layers", "name"); // another key is an error that names it
    int layers = json.integer("layers", 1, 1000);
    // @end
    assertEquals(4, layers);
    assertEquals("demo", json.text("name"));
    assertThrows(IllegalArgumentException.class, () -> json.only("layers"));
  }
}
