package dev.halter.steering;

import dev.halter.model.ArrayHash;
import dev.halter.model.Edit;
import java.nio.ByteBuffer;
import java.security.SecureRandom;
import java.util.function.ToLongFunction;

/**
 * Numbers for edits: equal for those that do the same, by whatever plan and name. They are digests
 * with a secret, so that nobody can make two edits that are taken for one another.
 */
final class EditDigests {
  private final byte[] secret = new byte[32];
  private final ArrayHash arrays;
  private final ToLongFunction<RemoveConcepts.Coding> loaded;

  /**
   * With a secret of their own: digests of others never meet these.
   *
   * @param arrays whose digests stand for them
   * @param loaded a number for each loading of the dictionary of a coding
   */
  EditDigests(ArrayHash arrays, ToLongFunction<RemoveConcepts.Coding> loaded) {
    this.arrays = arrays;
    this.loaded = loaded;
    new SecureRandom().nextBytes(secret);
  }

  /** The digest of a list of numbers; never 0. */
  long of(long... numbers) {
    EditHash hash = new EditHash(secret);
    for (long number : numbers) {
      hash.add(number);
    }
    return value(hash);
  }

  /** The digest of an edit; never 0. */
  long of(Edit edit) {
    return value(new EditHash(secret, arrays).add(edit, loaded));
  }

  /** The digest of a number and a text; never 0. */
  long of(long number, String text) {
    EditHash hash = new EditHash(secret);
    hash.add(number);
    hash.add(text);
    return value(hash);
  }

  private static long value(EditHash hash) {
    long value = ByteBuffer.wrap(hash.digest()).getLong();
    return value == 0 ? 1 : value;
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
}
