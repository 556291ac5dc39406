package dev.halter.files;

import java.io.IOException;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Predicate;

/**
 * Where the native libraries, the kernels for GPUs and oneDNN lie: in the folder that a system
 * property names, as in a checkout or a release, or unpacked from the jars that carry them.
 */
public final class NativeFiles {
  private static final String SUPPORTED = "Linux amd64";
  private static final String NATIVE = "halter.native";
  private static final String ONEDNN = "halter.onednn";
  private static final String HALTER = "dev/halter/linux-x86_64/libhalter.so";
  private static final String DNNL = "org/bytedeco/dnnl/linux-x86_64/libdnnl.so.3";

  /** What is unpacked already, by what is in it: it is compared with its jar once. */
  private static final Map<String, Path> UNPACKED = new ConcurrentHashMap<>();

  private NativeFiles() {}

  /** The folder that {@code -Dhalter.native} names, if it does. */
  public static Optional<Path> named() {
    return Optional.ofNullable(System.getProperty(NATIVE)).map(Path::of);
  }

  /**
   * The folder of libhalter.so, of what it loads, and of libcublas-forward.so.
   *
   * @throws IllegalStateException if they are nowhere, or not for this platform
   */
  public static Path libraries() {
    return named().orElseGet(() -> unpacked("libraries", HALTER, name -> name.contains(".so")));
  }

  /** The folder of the fatbins; as {@link #libraries}. */
  public static Path kernels() {
    return named()
        .orElseGet(() -> unpacked("kernels", HALTER, name -> name.startsWith("kernels/")))
        .resolve("kernels");
  }

  /** The folder of libdnnl.so.3; as {@link #libraries}. */
  public static Path onednn() {
    return Optional.ofNullable(System.getProperty(ONEDNN))
        .map(Path::of)
        .orElseGet(
            () -> unpacked("onednn", DNNL, Set.of("libdnnl.so.3", "libgomp.so.1")::contains));
  }

  /** libhalter-pages.so, if native code is there at all. */
  static Optional<Path> pages() {
    boolean there = named().isPresent() || platform().equals(SUPPORTED) && packed(HALTER) != null;
    return there
        ? Optional.of(libraries().resolve("libhalter-pages.so")).filter(Files::isRegularFile)
        : Optional.empty();
  }

  private static String platform() {
    return System.getProperty("os.name") + " " + System.getProperty("os.arch");
  }

  private static URL packed(String resource) {
    return NativeFiles.class.getClassLoader().getResource(resource);
  }

  private static Path unpacked(String content, String resource, Predicate<String> chosen) {
    return UNPACKED.computeIfAbsent(content, key -> unpack(resource, chosen));
  }

  private static Path unpack(String resource, Predicate<String> chosen) {
    if (!platform().equals(SUPPORTED)) {
      throw new IllegalStateException(
          "no native libraries for " + platform() + ", only for Linux x86-64");
    }
    URL packed = packed(resource);
    if (packed == null) {
      throw new IllegalStateException(
          "%s is not on the class path: add the jar that brings it, or name its folder by -D%s"
              .formatted(resource, resource.equals(HALTER) ? NATIVE : ONEDNN));
    }
    try {
      return PackedFiles.folder(packed, chosen);
    } catch (IOException e) {
      throw new IllegalStateException(
          "cannot unpack %s into %s (-D%s moves it): %s"
              .formatted(resource, PackedFiles.cache(), PackedFiles.CACHE, Reason.of(e)),
          e);
    }
  }
}
