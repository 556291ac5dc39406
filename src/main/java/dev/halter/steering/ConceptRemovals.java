package dev.halter.steering;

import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.sparse.Dictionary;
import dev.halter.sparse.DictionaryFile;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;
import java.util.function.Predicate;
import java.util.stream.Collectors;

/** The removals of concepts that open requests use, and the dictionaries that those share. */
final class ConceptRemovals implements AutoCloseable {
  private static final int EVERY_LAYER = -1;

  /**
   * Edits that one removal does together.
   *
   * @param turn 0 for a plan's first edit of that coding at the site, 1 for its second and so on:
   *     each keeps its own vector from a prompt's end on
   */
  record Together(Site site, RemoveConcepts.Coding coding, int turn) {
    /** What makes the removal that is intervention {@code at} of a plan. */
    static Together of(SteeringPlan plan, int at) {
      RemoveConcepts edit = (RemoveConcepts) plan.interventions().get(at).edit();
      int turn = 0;
      for (SteeringPlan.Intervention before : plan.interventions().subList(0, at)) {
        if (before.edit() instanceof RemoveConcepts other
            && other.site().equals(edit.site())
            && other.coding().equals(edit.coding())) {
          turn++;
        }
      }
      return new Together(edit.site(), edit.coding(), turn);
    }
  }

  /** Atoms of a layer, or of {@link #EVERY_LAYER}. */
  private record Atoms(Path file, int layer) {}

  /** A dictionary, and the how manieth that was loaded: its file may be another the next time. */
  private record Loaded(Dictionary dictionary, long number) {}

  private final Llama model;
  private final Map<Together, ConceptRemoval> removals = new HashMap<>();
  private final Map<Atoms, Loaded> dictionaries = new HashMap<>();
  private final Set<Path> forEveryLayer = new HashSet<>(); // files of those that are
  private long loadings;

  ConceptRemovals(Llama model) {
    this.model = model;
  }

  /**
   * The removal, made if it is not there.
   *
   * @throws dev.halter.files.BadFileException if its dictionary cannot be read
   * @throws dev.halter.device.OutOfDeviceMemoryException if it does not fit beside the others
   */
  ConceptRemoval get(Together together) {
    return removals.computeIfAbsent(
        together,
        t ->
            new ConceptRemoval(
                t.coding,
                loaded(t.coding).dictionary,
                model.limits().rows(),
                model.limits().sequences()));
  }

  /** A number that is the same as long as the dictionary of a coding is. */
  long loading(RemoveConcepts.Coding coding) {
    return loaded(coding).number;
  }

  /**
   * The dictionary of a coding: one, with its Gram matrix, where a file's atoms are for any layer.
   */
  private Loaded loaded(RemoveConcepts.Coding coding) {
    Loaded held = dictionaries.get(atoms(coding));
    if (held != null) {
      return held;
    }
    try (DictionaryFile file = DictionaryFile.open(coding.dictionary())) {
      file.requireWidth(model.config().dModel());
      Loaded loaded = new Loaded(file.load(model.device(), coding.layer()), ++loadings);
      if (file.layers().isEmpty()) {
        forEveryLayer.add(coding.dictionary());
      }
      dictionaries.put(atoms(coding), loaded);
      return loaded;
    }
  }

  private Atoms atoms(RemoveConcepts.Coding coding) {
    Path file = coding.dictionary();
    return new Atoms(file, forEveryLayer.contains(file) ? EVERY_LAYER : coding.layer());
  }

  /** Frees all but these; what was solved at prompts' ends goes with a removal. */
  void keep(Set<RemoveConcepts.Coding> codings) {
    free(removals, together -> !codings.contains(together.coding), ConceptRemoval::close);
    Set<Atoms> atoms = codings.stream().map(this::atoms).collect(Collectors.toSet());
    free(dictionaries, key -> !atoms.contains(key), loaded -> loaded.dictionary.close());
    // A file that nobody uses may be another the next time.
    forEveryLayer.removeIf(file -> !dictionaries.containsKey(new Atoms(file, EVERY_LAYER)));
  }

  private static <K, V> void free(Map<K, V> held, Predicate<K> goes, Consumer<V> close) {
    held.entrySet()
        .removeIf(
            entry -> {
              boolean free = goes.test(entry.getKey());
              if (free) {
                close.accept(entry.getValue());
              }
              return free;
            });
  }

  @Override
  public void close() {
    keep(Set.of());
  }
}
