package dev.halter.cli;

import static java.nio.charset.StandardCharsets.UTF_8;

import dev.halter.files.BadFileException;
import dev.halter.files.Reason;
import dev.halter.files.Shard;
import dev.halter.model.Llama;
import dev.halter.weights.Fingerprint;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.Map;
import picocli.CommandLine.Option;

/** {@code --shard}: a part of the work, where many machines share it without a cluster. */
public final class ShardOptions {
  @Option(
      names = "--shard",
      paramLabel = "I/N",
      description =
          "Do part I, from 0, of N; halter merge joins the results. auto: as a Slurm array says;"
              + " auto/N: as an indexed job of Kubernetes or a Slurm array says.")
  String shard;

  /**
   * What part is to be done.
   *
   * @throws WrongUseException if the option makes no sense, or the environment does not say
   */
  public Shard shard() {
    return shard == null ? Shard.WHOLE : parse(shard, System.getenv());
  }

  /**
   * Names the work that a shard is a part of: a digest of the model, the input and the settings.
   *
   * @throws WrongUseException if the input can be read only once
   */
  public static String job(Path in, Llama model, String... settings) {
    if (!Files.isRegularFile(in)) {
      throw new WrongUseException("--shard reads " + in + " twice, so it must be a regular file");
    }
    MessageDigest hash = Fingerprint.sha256();
    hash.update(Fingerprint.of(model.config(), model.weights().checkpoint()).getBytes(UTF_8));
    for (String setting : settings) {
      hash.update((setting.length() + " " + setting).getBytes(UTF_8));
    }
    try (InputStream bytes = new DigestInputStream(Files.newInputStream(in), hash)) {
      bytes.transferTo(OutputStream.nullOutputStream());
    } catch (IOException e) {
      throw new BadFileException(in, "cannot be read: " + Reason.of(e), e);
    }
    return HexFormat.of().formatHex(hash.digest());
  }

  static Shard parse(String text, Map<String, String> environment) {
    try {
      if (!text.equals("auto") && !text.startsWith("auto/")) {
        return Shard.parse(text);
      }
      int count = text.equals("auto") ? 0 : Shard.parse("0" + text.substring(4)).count();
      if (environment.containsKey("SLURM_ARRAY_TASK_ID")) {
        return slurm(environment, count);
      }
      if (!environment.containsKey("JOB_COMPLETION_INDEX")) {
        throw new IllegalArgumentException(
            "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set: name it, as 0/8");
      }
      if (count == 0) {
        throw new IllegalArgumentException(
            "Kubernetes does not say how many there are: add it, as auto/8");
      }
      return new Shard(number(environment, "JOB_COMPLETION_INDEX"), count);
    } catch (IllegalArgumentException e) {
      throw new WrongUseException("--shard " + text + ": " + e.getMessage());
    }
  }

  /** An array such as 0-7 or 10-80:10 gives its tasks 0/8 to 7/8. */
  private static Shard slurm(Map<String, String> environment, int wanted) {
    int count = number(environment, "SLURM_ARRAY_TASK_COUNT");
    int distance =
        number(environment, "SLURM_ARRAY_TASK_ID") - number(environment, "SLURM_ARRAY_TASK_MIN");
    int step =
        environment.containsKey("SLURM_ARRAY_TASK_STEP")
            ? number(environment, "SLURM_ARRAY_TASK_STEP")
            : 1;
    int span =
        number(environment, "SLURM_ARRAY_TASK_MAX") - number(environment, "SLURM_ARRAY_TASK_MIN");
    if (step < 1 || distance % step != 0 || span != (count - 1) * step) {
      throw new IllegalArgumentException(
          "the numbers of the Slurm array have gaps: give it --array=0-" + (count - 1));
    }
    if (wanted != 0 && wanted != count) {
      throw new IllegalArgumentException("the Slurm array has " + count + " tasks");
    }
    return new Shard(distance / step, count);
  }

  private static int number(Map<String, String> environment, String name) {
    String value = environment.getOrDefault(name, "");
    try {
      return Integer.parseInt(value);
    } catch (NumberFormatException e) {
      throw new IllegalArgumentException(name + " is '" + value + "', not a number", e);
    }
  }
}
