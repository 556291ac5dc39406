package dev.halter.files;

import java.io.IOException;
import java.io.InputStream;
import java.net.JarURLConnection;
import java.net.URI;
import java.net.URL;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.function.Predicate;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;

/**
 * Files that come in a jar and must lie in a folder to be used: libraries, kernels, a model.
 *
 * <p>They are unpacked once, into a folder of the cache that bears the jar's name and a hash of
 * what is in it. Each use compares every file with the jar by size and CRC-32, so that a damaged
 * one is replaced. A file appears whole or not at all, and processes that unpack at once write the
 * same: whichever is last is as good as the first. Where the cache cannot be written, a temporary
 * folder serves until Java ends.
 */
public final class PackedFiles {
  /** System property: the cache, instead of {@code halter} in the user's. */
  public static final String CACHE = "halter.cache";

  private PackedFiles() {}

  /**
   * A folder on disk with files that lie beside a resource.
   *
   * @param beside a resource of a jar, or a file, whose folder is returned as it is
   * @param chosen which names, relative to the resource's folder, are needed
   * @throws IOException if they can be written nowhere, or the jar is damaged
   */
  public static Path folder(URL beside, Predicate<String> chosen) throws IOException {
    if (beside.getProtocol().equals("file")) {
      return Path.of(URI.create(beside.toString())).getParent();
    }
    if (!(beside.openConnection() instanceof JarURLConnection connection)) {
      throw new IOException(beside + " lies neither in a jar nor in a folder");
    }
    JarFile jar = connection.getJarFile(); // shared with others, so not closed
    String resource = connection.getEntryName();
    String packed = resource.substring(0, resource.lastIndexOf('/') + 1);
    List<JarEntry> entries =
        jar.stream().filter(e -> !e.isDirectory() && e.getName().startsWith(packed)).toList();
    List<JarEntry> needed =
        entries.stream().filter(e -> chosen.test(e.getName().substring(packed.length()))).toList();
    String name = name(jar) + "-" + hash(entries);
    try {
      return unpack(jar, needed, packed.length(), cache().resolve(name));
    } catch (IOException e) {
      Path temporary = Files.createTempDirectory(name + "-");
      unpack(jar, needed, packed.length(), temporary);
      deleteOnExit(temporary);
      return temporary;
    }
  }

  /** The cache: {@link #CACHE}, or halter in {@code $XDG_CACHE_HOME} or {@code ~/.cache}. */
  public static Path cache() {
    String named = System.getProperty(CACHE);
    if (named != null) {
      return Path.of(named).toAbsolutePath();
    }
    String configured = System.getenv("XDG_CACHE_HOME");
    Path user =
        configured != null && Path.of(configured).isAbsolute()
            ? Path.of(configured)
            : Path.of(System.getProperty("user.home"), ".cache");
    return user.resolve("halter");
  }

  private static String name(JarFile jar) {
    String file = Path.of(jar.getName()).getFileName().toString();
    return file.endsWith(".jar") ? file.substring(0, file.length() - 4) : file;
  }

  private static String hash(List<JarEntry> entries) {
    CRC32 hash = new CRC32();
    for (JarEntry entry : entries) {
      String line = entry.getName() + ' ' + entry.getSize() + ' ' + entry.getCrc() + '\n';
      hash.update(line.getBytes(StandardCharsets.UTF_8));
    }
    return Long.toHexString(hash.getValue());
  }

  private static Path unpack(JarFile jar, List<JarEntry> entries, int prefix, Path folder)
      throws IOException {
    for (JarEntry entry : entries) {
      Path file = folder.resolve(entry.getName().substring(prefix)).normalize();
      if (!file.startsWith(folder)) {
        throw new IOException(
            entry.getName() + " in " + jar.getName() + " leads out of its folder");
      }
      if (!holds(file, entry)) {
        write(jar, entry, file);
      }
    }
    return folder;
  }

  private static boolean holds(Path file, ZipEntry entry) throws IOException {
    if (!Files.isRegularFile(file) || Files.size(file) != entry.getSize()) {
      return false;
    }
    CRC32 content = new CRC32();
    try (FileChannel channel = FileChannel.open(file)) {
      ByteBuffer bytes = ByteBuffer.allocateDirect(1 << 16);
      while (channel.read(bytes.clear()) > 0) {
        content.update(bytes.flip());
      }
    }
    return content.getValue() == entry.getCrc();
  }

  private static void write(JarFile jar, ZipEntry entry, Path file) throws IOException {
    Files.createDirectories(file.getParent());
    long process = ProcessHandle.current().pid();
    Path part = file.resolveSibling(file.getFileName() + "." + process + "-" + System.nanoTime());
    try {
      try (InputStream in = jar.getInputStream(entry)) {
        Files.copy(in, part);
      }
      if (!holds(part, entry)) {
        throw new IOException(entry.getName() + " in " + jar.getName() + " is damaged");
      }
      Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
    } finally {
      Files.deleteIfExists(part);
    }
  }

  private static void deleteOnExit(Path folder) throws IOException {
    try (var paths = Files.walk(folder)) {
      paths.forEach(path -> path.toFile().deleteOnExit()); // in the reverse order
    }
  }
}
