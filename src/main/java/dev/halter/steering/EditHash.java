package dev.halter.steering;

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

  /** An empty one, after {@code begin}. */
  EditHash(byte[] begin) {
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
      case Edit.Add add -> add(add.vector()).add(add.scale());
      case Edit.Ablate ablate -> add(ablate.unit()).add(ablate.strength());
      case Edit.Project project ->
          add(project.unit()).add(project.min(), project.max(), project.strength());
      case Edit.Heads heads -> add(heads.heads()).add(heads.scale());
      case Edit.HeadAffine maps -> add(maps.heads()).add(maps.a()).add(maps.b());
      case Edit.Neurons neurons ->
          add(neurons.neurons())
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
