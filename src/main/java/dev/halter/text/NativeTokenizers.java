package dev.halter.text;

import ai.djl.huggingface.tokenizers.jni.TokenizersLibrary;
import java.io.IOException;
import java.io.InputStream;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Properties;

/**
 * Hugging Face's tokenizers as DJL's artifact carries them: a Rust library with a JNI face.
 *
 * <p>DJL's own loader asks the CUDA runtime which GPU there is, may download another build of the
 * library for it, and reports home. All that is needed is the library for the CPU, which lies in
 * the same artifact, so it is unpacked here, once per version, and loaded directly: nothing is
 * downloaded and start-up costs a tenth.
 */
final class NativeTokenizers {
  private static final String RESOURCES = "/native/lib/";

  private static boolean loaded;

  private NativeTokenizers() {}

  static synchronized TokenizersLibrary library() {
    if (!loaded) {
      String system = System.getProperty("os.name").startsWith("Mac") ? "osx" : "linux";
      String machine = System.getProperty("os.arch").replace("amd64", "x86_64");
      String name = System.mapLibraryName("tokenizers");
      String resource = RESOURCES + system + "-" + machine + "/cpu/" + name;
      URL library = TokenizersLibrary.class.getResource(resource);
      if (library == null) {
        throw new IllegalStateException(
            "no tokenizer library for " + system + "-" + machine + " in DJL's tokenizers artifact");
      }
      try {
        System.load(unpacked(library, name).toString());
      } catch (IOException e) {
        throw new IllegalStateException("cannot unpack the tokenizer library: " + e, e);
      }
      loaded = true;
    }
    return TokenizersLibrary.LIB;
  }

  /** The library's file in the user's cache, or in a directory of its own where that fails. */
  private static Path unpacked(URL library, String name) throws IOException {
    long size = library.openConnection().getContentLengthLong();
    Path file = cache().resolve("halter").resolve("tokenizers-" + version()).resolve(name);
    if (Files.isRegularFile(file) && Files.size(file) == size) {
      return file;
    }
    try {
      Files.createDirectories(file.getParent());
      Path part = Files.createTempFile(file.getParent(), name, ".part");
      copy(library, part);
      // Another process may do the same: whichever file is moved last is as good as the first.
      return Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
    } catch (IOException e) {
      Path own = Files.createTempDirectory("halter-tokenizers").resolve(name);
      own.getParent().toFile().deleteOnExit();
      own.toFile().deleteOnExit();
      copy(library, own);
      return own;
    }
  }

  private static void copy(URL library, Path file) throws IOException {
    try (InputStream in = library.openStream()) {
      Files.copy(in, file, StandardCopyOption.REPLACE_EXISTING);
    }
  }

  private static Path cache() {
    String configured = System.getenv("XDG_CACHE_HOME");
    return configured != null && Path.of(configured).isAbsolute()
        ? Path.of(configured)
        : Path.of(System.getProperty("user.home"), ".cache");
  }

  private static String version() throws IOException {
    Properties properties = new Properties();
    try (InputStream in =
        TokenizersLibrary.class.getResourceAsStream(RESOURCES + "tokenizers.properties")) {
      properties.load(in);
    }
    return properties.getProperty("version");
  }
}
