package dev.halter.text;

import ai.djl.huggingface.tokenizers.jni.TokenizersLibrary;
import dev.halter.files.NativeFiles;
import dev.halter.files.PackedFiles;
import java.io.IOException;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Hugging Face's tokenizers as DJL's artifact carries them: a Rust library with a JNI face.
 *
 * <p>DJL's own loader asks the CUDA runtime which GPU there is, may download another build of the
 * library for it, and reports home. All that is needed is the library for the CPU, which lies in
 * the same artifact, so it is unpacked here, or lies beside our own, and is loaded directly:
 * nothing is downloaded and start-up costs a tenth.
 */
final class NativeTokenizers {
  private static boolean loaded;

  private NativeTokenizers() {}

  static synchronized TokenizersLibrary library() {
    if (!loaded) {
      String name = System.mapLibraryName("tokenizers");
      Path folder = NativeFiles.named().orElse(Path.of(""));
      if (!Files.isRegularFile(folder.resolve(name))) {
        folder = unpacked(name);
      }
      System.load(folder.resolve(name).toAbsolutePath().toString());
      loaded = true;
    }
    return TokenizersLibrary.LIB;
  }

  private static Path unpacked(String name) {
    String system = System.getProperty("os.name").startsWith("Mac") ? "osx" : "linux";
    String machine = System.getProperty("os.arch").replace("amd64", "x86_64");
    String resource = "/native/lib/" + system + "-" + machine + "/cpu/" + name;
    URL library = TokenizersLibrary.class.getResource(resource);
    if (library == null) {
      throw new IllegalStateException(
          "no tokenizer library for " + system + "-" + machine + " in DJL's tokenizers artifact");
    }
    try {
      return PackedFiles.folder(library, name::equals);
    } catch (IOException e) {
      throw new IllegalStateException("cannot unpack the tokenizer library: " + e, e);
    }
  }
}
