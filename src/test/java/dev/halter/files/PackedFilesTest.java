package dev.halter.files;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.OutputStream;
import java.net.URI;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.jar.JarOutputStream;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PackedFilesTest {
  private final Map<String, byte[]> content = new TreeMap<>();
  @TempDir Path temporary;
  private Path cache;
  private int jars;

  @BeforeEach
  void fill() {
    cache = temporary.resolve("cache");
    System.setProperty(PackedFiles.CACHE, cache.toString());
    for (String name : List.of("lib.so", "kernels/a.fatbin", "kernels/b.fatbin")) {
      byte[] bytes = new byte[100_000 + name.length()];
      new Random(name.hashCode()).nextBytes(bytes);
      content.put(name, bytes);
    }
  }

  @AfterEach
  void clear() {
    System.clearProperty(PackedFiles.CACHE);
  }

  /** Each jar has a name of its own, since Java keeps those open that it has read. */
  private URL jar() throws IOException {
    Path jar = temporary.resolve("natives-" + jars++ + ".jar");
    try (JarOutputStream out = new JarOutputStream(Files.newOutputStream(jar))) {
      for (var entry : content.entrySet()) {
        out.putNextEntry(new ZipEntry("dev/halter/" + entry.getKey()));
        out.write(entry.getValue());
      }
      out.putNextEntry(new ZipEntry("elsewhere/lib.so"));
      out.write(1);
    }
    return URI.create("jar:" + jar.toUri() + "!/dev/halter/lib.so").toURL();
  }

  private void assertHeld(Path folder) throws IOException {
    Map<String, byte[]> found = new TreeMap<>();
    try (Stream<Path> paths = Files.walk(folder)) {
      for (Path file : paths.filter(Files::isRegularFile).toList()) {
        found.put(folder.relativize(file).toString(), Files.readAllBytes(file));
      }
    }
    assertEquals(content.keySet(), found.keySet());
    content.forEach((name, bytes) -> assertArrayEquals(bytes, found.get(name), name));
  }

  @Test
  void theChosenFilesAreUnpackedOnceIntoTheCache() throws IOException {
    URL jar = jar();
    Path folder = PackedFiles.folder(jar, name -> name.startsWith("kernels/"));
    assertEquals(cache, folder.getParent());
    assertTrue(folder.getFileName().toString().startsWith("natives-0-"), folder.toString());
    assertFalse(Files.exists(folder.resolve("lib.so")));
    FileTime longAgo = FileTime.fromMillis(1_000_000);
    Files.setLastModifiedTime(folder.resolve("kernels/a.fatbin"), longAgo);
    assertEquals(folder, PackedFiles.folder(jar, name -> true));
    assertHeld(folder);
    assertEquals(longAgo, Files.getLastModifiedTime(folder.resolve("kernels/a.fatbin")));
  }

  @Test
  void anotherContentHasAnotherFolder() throws IOException {
    Path first = PackedFiles.folder(jar(), name -> true);
    content.get("lib.so")[5]++;
    Path second = PackedFiles.folder(jar(), name -> true);
    String hash = second.toString().replace("natives-1-", "natives-0-");
    assertFalse(first.toString().equals(hash), hash);
    assertHeld(second);
  }

  @Test
  void aDamagedFileIsReplaced() throws IOException {
    URL jar = jar();
    Path folder = PackedFiles.folder(jar, name -> true);
    byte[] changed = content.get("lib.so").clone();
    changed[99]++;
    Files.write(folder.resolve("lib.so"), changed);
    Files.write(folder.resolve("kernels/a.fatbin"), new byte[3]);
    Files.delete(folder.resolve("kernels/b.fatbin"));
    assertEquals(folder, PackedFiles.folder(jar, name -> true));
    assertHeld(folder);
  }

  @Test
  void manyMayUnpackAtOnce() throws Exception {
    URL jar = jar();
    for (int round = 0; round < 5; round++) {
      List<Callable<Path>> tasks = new ArrayList<>();
      for (int i = 0; i < 8; i++) {
        tasks.add(() -> PackedFiles.folder(jar, name -> true));
      }
      try (ExecutorService threads = Executors.newFixedThreadPool(8)) {
        for (Future<Path> folder : threads.invokeAll(tasks)) {
          assertEquals(cache, folder.get().getParent());
          assertHeld(folder.get());
        }
      }
      Path folder = PackedFiles.folder(jar, name -> true);
      Files.write(folder.resolve("lib.so"), new byte[round]);
      Files.delete(folder.resolve("kernels/a.fatbin"));
    }
  }

  @Test
  void whereTheCacheCannotBeWrittenATemporaryFolderServes() throws IOException {
    Files.writeString(cache, "no folder");
    Path folder = PackedFiles.folder(jar(), name -> true);
    assertFalse(folder.startsWith(cache));
    assertHeld(folder);
  }

  @Test
  void aFolderOnDiskIsTakenAsItIs() throws IOException {
    Path file = Files.writeString(temporary.resolve("a b.so"), "");
    assertEquals(temporary, PackedFiles.folder(file.toUri().toURL(), name -> true));
    assertFalse(Files.exists(cache));
  }

  @Test
  void noFileLeavesItsFolder() throws IOException {
    content.put("../../outside", new byte[1]);
    URL jar = jar();
    assertThrows(IOException.class, () -> PackedFiles.folder(jar, name -> true));
    assertFalse(Files.exists(temporary.resolve("outside")));
  }

  /** A jar whose bytes are not those that its directory promises. */
  @Test
  void aDamagedJarIsAnError() throws IOException {
    URL jar = jar();
    Path file = temporary.resolve("natives-0.jar");
    byte[] bytes = Files.readAllBytes(file);
    bytes[bytes.length / 2] ^= 0x55; // in the midst of random, so stored, bytes
    try (OutputStream out = Files.newOutputStream(file)) {
      out.write(bytes);
    }
    assertThrows(IOException.class, () -> PackedFiles.folder(jar, name -> true));
  }
}
