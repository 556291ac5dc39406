package dev.halter.serving;

import dev.halter.files.BadFileException;
import dev.halter.files.TextFile;
import dev.halter.weights.Fingerprint;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.List;

/**
 * Keys that clients show, one a line of a file; lines that begin with {@code #} are comments. They
 * are kept as digests and compared in a time that tells nothing about them.
 */
final class Keys {
  /** No key is asked for. */
  static final Keys NONE = new Keys(List.of());

  private static final String SCHEME = "Bearer ";

  private final List<byte[]> digests;

  private Keys(List<byte[]> digests) {
    this.digests = digests;
  }

  /**
   * The keys of a file.
   *
   * @throws BadFileException if it holds none
   */
  static Keys read(Path file) {
    List<byte[]> digests =
        TextFile.readUnmarked(file)
            .lines()
            .map(String::strip)
            .filter(line -> !line.isEmpty() && !line.startsWith("#"))
            .map(Keys::digest)
            .toList();
    if (digests.isEmpty()) {
      throw new BadFileException(file, "holds no key: write one on a line of its own");
    }
    return new Keys(digests);
  }

  boolean isNone() {
    return digests.isEmpty();
  }

  /** Whether the value of a header {@code Authorization} shows one of them. */
  boolean has(String authorization) {
    if (authorization == null
        || !authorization.regionMatches(true, 0, SCHEME, 0, SCHEME.length())) {
      return false;
    }
    byte[] shown = digest(authorization.substring(SCHEME.length()).strip());
    boolean found = false;
    for (byte[] digest : digests) { // all of them, whichever it is
      found |= MessageDigest.isEqual(digest, shown);
    }
    return found;
  }

  /** A text that stands for the key that is shown, and for no other. */
  static String owner(String authorization) {
    return HexFormat.of().formatHex(digest(authorization.substring(SCHEME.length()).strip()));
  }

  private static byte[] digest(String key) {
    return Fingerprint.sha256().digest(key.getBytes(StandardCharsets.UTF_8));
  }
}
