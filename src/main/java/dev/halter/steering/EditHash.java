package dev.halter.steering;

import dev.halter.model.ArrayHash;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.weights.Fingerprint;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Collection;
import java.util.function.ToLongFunction;

/**
 * SHA-256 of edits and of when they act: of all that they do and of nothing else, such as names.
 * Each part goes in with its length, so that no two lists read alike.
 */
final class EditHash {
  private final MessageDigest sha = Fingerprint.sha256();
  private final ArrayHash arrays; // null: arrays go in themselves

  /** An empty one, after {@code begin}. */
  EditHash(byte[] begin) {
    this(begin, null);
  }

  /** As above, for this process alone: into which of arrays their digests go. */
  EditHash(byte[] begin, ArrayHash arrays) {
    this.arrays = arrays;
    sha.update(begin);
  }

  /**
   * Adds an edit.
   *
   * @param loaded a number for each loading of the dictionary of a coding
   */
  EditHash add(Edit edit, ToLongFunction<RemoveConcepts.Coding> loaded) {
    Site site = edit.site();
    add(edit.getClass().getSimpleName());
    add(site.kind().name());
    add(site.layer());
    switch (edit) {
      case Edit.Add add -> array(add.vector()).add(add.scale());
      case Edit.Ablate ablate -> array(ablate.unit()).add(ablate.strength());
      case Edit.Project project ->
          array(project.unit()).add(project.min(), project.max(), project.strength());
      case Edit.Heads heads -> array(heads.heads()).add(heads.scale());
      case Edit.HeadAffine maps -> array(maps.heads()).array(maps.a()).array(maps.b());
      case Edit.Neurons neurons ->
          array(neurons.neurons())
              .add(neurons.scale(), neurons.min(), neurons.max(), neurons.strength());
      case RemoveConcepts removal -> {
        add(removal.coding().toString());
        add(loaded.applyAsLong(removal.coding()));
        removal.names().forEach(this::add);
        add(removal.keep() ? 1 : 0);
        add(removal.strength());
      }
      case Edit.Queued queued -> throw new IllegalStateException("no digest of " + queued);
    }
    return this;
  }

  /** Adds when an edit acts: the same for selectors in whatever order. */
  EditHash add(Trigger trigger) {
    return add(trigger.prompt()).add(trigger.generation());
  }

  private EditHash add(Trigger.Phase phase) {
    return add(phase.include()).add(phase.exclude());
  }

  private EditHash add(Trigger.Selection selection) {
    add(selection.all() ? 1 : 0);
    if (selection.all()) {
      return this; // and the rest adds nothing to it
    }
    Trigger.Window window = selection.window();
    add(sorted(selection.tokens())).add(sorted(selection.positions()));
    return add(window == null ? new int[0] : new int[] {window.from(), window.to()});
  }

  private static int[] sorted(Collection<Integer> values) {
    return values == null
        ? new int[0]
        : values.stream().mapToInt(Integer::intValue).sorted().distinct().toArray();
  }

  void add(long number) {
    sha.update(ByteBuffer.allocate(8).putLong(0, number));
  }

  void add(String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    add(bytes.length);
    sha.update(bytes);
  }

  private EditHash array(float[] values) {
    return arrays == null ? add(values) : add(arrays.of(values));
  }

  private EditHash array(int[] values) {
    return arrays == null ? add(values) : add(arrays.of(values));
  }

  private EditHash add(ArrayHash.Digest digest) {
    add(digest.high());
    add(digest.low());
    return this;
  }

  private EditHash add(int[] values) {
    add(values.length);
    ByteBuffer bytes = ByteBuffer.allocate(4 * values.length);
    bytes.asIntBuffer().put(values);
    sha.update(bytes);
    return this;
  }

  private EditHash add(float... values) {
    add(values.length);
    ByteBuffer bytes = ByteBuffer.allocate(4 * values.length);
    bytes.asFloatBuffer().put(values);
    sha.update(bytes);
    return this;
  }

  /** What has been added; it is empty and without its beginning after that. */
  byte[] digest() {
    return sha.digest();
  }
}
