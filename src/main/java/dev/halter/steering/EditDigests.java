package dev.halter.steering;

import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.weights.Fingerprint;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.function.ToLongFunction;

/**
 * Numbers for edits: equal for those that do the same, by whatever plan and name. They are digests
 * with a secret, so that nobody can make two edits that are taken for one another.
 */
final class EditDigests {
  private final byte[] secret = new byte[32];
  private final ToLongFunction<RemoveConcepts.Coding> loaded;

  /**
   * With a secret of their own: digests of others never meet these.
   *
   * @param loaded a number for each loading of the dictionary of a coding
   */
  EditDigests(ToLongFunction<RemoveConcepts.Coding> loaded) {
    this.loaded = loaded;
    new SecureRandom().nextBytes(secret);
  }

  /** The digest of a list of numbers; never 0. */
  long of(long... numbers) {
    Digest digest = new Digest();
    for (long number : numbers) {
      digest.add(number);
    }
    return digest.value();
  }

  /** The digest of an edit; never 0. */
  long of(Edit edit) {
    Digest digest = new Digest();
    Site site = edit.site();
    digest.add(edit.getClass().getSimpleName());
    digest.add(site.kind().name());
    digest.add(site.layer());
    switch (edit) {
      case Edit.Add add -> digest.add(add.vector()).add(add.scale());
      case Edit.Ablate ablate -> digest.add(ablate.unit()).add(ablate.strength());
      case Edit.Project project ->
          digest.add(project.unit()).add(project.min(), project.max(), project.strength());
      case Edit.Heads heads -> digest.add(heads.heads()).add(heads.scale());
      case Edit.HeadAffine maps -> digest.add(maps.heads()).add(maps.a()).add(maps.b());
      case Edit.Neurons neurons ->
          digest
              .add(neurons.neurons())
              .add(neurons.scale(), neurons.min(), neurons.max(), neurons.strength());
      case RemoveConcepts removal -> {
        digest.add(removal.coding().toString());
        digest.add(loaded.applyAsLong(removal.coding()));
        removal.names().forEach(digest::add);
        digest.add(removal.keep() ? 1 : 0);
        digest.add(removal.strength());
      }
      case Edit.Queued queued -> throw new IllegalStateException("no digest of " + queued);
    }
    return digest.value();
  }

  /** Whether an edit leaves every activation as it is. */
  static boolean changesNothing(Edit edit) {
    return switch (edit) {
      case Edit.Add add -> add.scale() == 0;
      case Edit.Ablate ablate -> ablate.strength() == 0;
      case Edit.Project project -> project.strength() == 0;
      case Edit.Heads heads -> heads.scale() == 1;
      case Edit.Neurons neurons -> neurons.strength() == 0;
      case RemoveConcepts removal -> removal.strength() == 0;
      default -> false;
    };
  }

  /** What has been added, each part with its length, so that no two lists read alike. */
  private final class Digest {
    private final MessageDigest sha = Fingerprint.sha256();

    Digest() {
      sha.update(secret);
    }

    void add(long number) {
      sha.update(ByteBuffer.allocate(8).putLong(0, number));
    }

    void add(String text) {
      byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
      add(bytes.length);
      sha.update(bytes);
    }

    Digest add(int[] values) {
      add(values.length);
      ByteBuffer bytes = ByteBuffer.allocate(4 * values.length);
      bytes.asIntBuffer().put(values);
      sha.update(bytes);
      return this;
    }

    Digest add(float... values) {
      add(values.length);
      ByteBuffer bytes = ByteBuffer.allocate(4 * values.length);
      bytes.asFloatBuffer().put(values);
      sha.update(bytes);
      return this;
    }

    long value() {
      long value = ByteBuffer.wrap(sha.digest()).getLong();
      return value == 0 ? 1 : value;
    }
  }
}
