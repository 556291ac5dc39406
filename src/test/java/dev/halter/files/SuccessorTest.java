package dev.halter.files;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SuccessorTest {
  @TempDir Path folder;

  @Test
  void takesItsPlaceWholeOrLeavesWhatWasThere() throws IOException {
    Path target = Files.writeString(folder.resolve("x.json"), "old");
    try (Successor file = Successor.file(target)) {
      file.channel().write(ByteBuffer.wrap("new".getBytes(StandardCharsets.UTF_8)));
      assertEquals("old", Files.readString(target));
    }
    assertEquals("old", Files.readString(target));
    assertEquals(Set.of("x.json"), names());
    try (Successor file = Successor.file(target)) {
      file.channel().write(ByteBuffer.wrap("new".getBytes(StandardCharsets.UTF_8)));
      file.takePlace();
    }
    assertEquals("new", Files.readString(target));
    assertEquals(Set.of("x.json"), names());

    Path tree = folder.resolve("a/model");
    try (Successor grown = Successor.folder(tree)) {
      Files.writeString(grown.path().resolve("config.json"), "{}");
      grown.takePlace();
    }
    try (var files = Files.list(tree)) {
      assertEquals(List.of(tree.resolve("config.json")), files.toList());
    }
  }

  /** What a kill left of earlier ones goes; what another process still writes stays. */
  @Test
  void takesAwayWhatIsLeftAndNothingElse() throws IOException {
    Path target = folder.resolve("x.json");
    Path left = Files.createFile(folder.resolve("x.json.0123456789ab.tmp"));
    Path leftFolder = Files.createDirectory(folder.resolve("x.json.0123456789ac.tmp"));
    Files.createFile(leftFolder.resolve(".growing"));
    Files.createFile(leftFolder.resolve("model.safetensors"));
    List<String> others = List.of("x.json.tmp", "y.json.0123456789ab.tmp", "x.json.notes.tmp");
    for (String other : others) {
      Files.createFile(folder.resolve(other));
    }
    try (Successor one = Successor.file(target);
        Successor two = Successor.file(target)) {
      assertFalse(Files.exists(left));
      assertFalse(Files.exists(leftFolder));
      assertTrue(Files.exists(one.path()) && Files.exists(two.path()));
      two.takePlace();
      one.takePlace();
    }
    assertTrue(names().containsAll(others));
    assertEquals(others.size() + 1, names().size());
  }

  @Test
  void whatCannotBeWrittenIsSaidByTheNameThatWasGiven() throws IOException {
    Path missing = folder.resolve("none/x.json");
    assertError(missing, "there is no folder " + missing.getParent());
    assertError(folder, "it is a folder");
    Path file = Files.createFile(folder.resolve("file"));
    assertError(file.resolve("x.json"), file + " is no folder");
    UncheckedIOException full =
        assertThrows(
            UncheckedIOException.class,
            () -> WholeFile.write(Path.of("/dev/full"), out -> out.write("text")));
    assertEquals("/dev/full: cannot be written: no space left on device", full.getMessage());
  }

  private static void assertError(Path target, String reason) {
    UncheckedIOException error =
        assertThrows(UncheckedIOException.class, () -> Destination.check(target));
    assertEquals(target + ": cannot be written: " + reason, error.getMessage());
  }

  private Set<String> names() throws IOException {
    try (var files = Files.list(folder)) {
      return files.map(file -> file.getFileName().toString()).collect(Collectors.toSet());
    }
  }
}
