package dev.halter.weights;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.TreeSet;

/**
 * A cheap name for the content of a model, by which files made from a model (maps, dictionaries,
 * fitted transforms) know it again.
 *
 * <p>SHA-256, in hexadecimal, over UTF-8 text and bytes in this order: the line {@code
 * halter-model-1}; a line of the config fields that change the arithmetic; then for every tensor in
 * the order of names a line of name, dtype and shape, the first 4 KiB of its data and the last 4
 * KiB (all of it, once, when it is no longer than 8 KiB). So it does not depend on how the tensors
 * are spread over files, on stop tokens or on file names, and it reads megabytes where the model
 * has gigabytes. It tells models apart; it is no protection against somebody who forges one.
 */
public final class Fingerprint {
  private static final int SAMPLE = 4096;

  private Fingerprint() {}

  /** The fingerprint of a model: 64 hexadecimal digits. */
  public static String of(ModelConfig config, Checkpoint checkpoint) {
    MessageDigest hash = sha256();
    line(hash, "halter-model-1");
    line(hash, arithmetic(config));
    for (String name : new TreeSet<>(checkpoint.names())) {
      TensorView tensor = checkpoint.tensor(name);
      line(hash, name + " " + tensor.dtype() + " " + Arrays.toString(tensor.shape()));
      long size = tensor.data().byteSize();
      if (size <= 2 * SAMPLE) {
        hash.update(tensor.data().asByteBuffer());
      } else {
        hash.update(tensor.data().asSlice(0, SAMPLE).asByteBuffer());
        hash.update(tensor.data().asSlice(size - SAMPLE).asByteBuffer());
      }
    }
    checkpoint.requireWhole();
    return HexFormat.of().formatHex(hash.digest());
  }

  /** What the tensors' shapes do not tell. */
  private static String arithmetic(ModelConfig config) {
    return String.join(
        " ",
        config.family().modelType(),
        "heads",
        Integer.toString(config.nHeads()),
        Integer.toString(config.nKvHeads()),
        "eps",
        Double.toString(config.rmsNormEps()),
        "windows",
        config.slidingWindows().toString(),
        "rope",
        config.rope().toString());
  }

  private static void line(MessageDigest hash, String text) {
    hash.update((text + "\n").getBytes(StandardCharsets.UTF_8));
  }

  /** An empty SHA-256. */
  public static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError("every Java platform has SHA-256", e);
    }
  }
}
