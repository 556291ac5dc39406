package dev.halter.sparse;

import dev.halter.device.Device;
import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.files.Reason;
import dev.halter.text.Spelling;
import dev.halter.weights.Safetensors;
import dev.halter.weights.TensorView;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.NavigableMap;
import java.util.SortedSet;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

/**
 * Concept dictionaries on disk, one or one for each layer. Three forms:
 *
 * <ul>
 *   <li>a safetensors file with {@code atoms} [n, d], for any layer
 *   <li>a safetensors file with {@code atoms.<layer>} [n, d] for some layers
 *   <li>a folder as SAELens writes it: {@code cfg.json} and {@code sae_weights.safetensors}, whose
 *       rows of {@code W_dec} are the atoms, for the layer of its hook
 * </ul>
 *
 * <p>Atoms are F64, F32, F16 or BF16. The names of the atoms are a JSON list of n strings, in the
 * metadata entry {@code names} or in the file {@code X.names.json} beside {@code X.safetensors};
 * without either an atom's name is its index.
 */
public final class DictionaryFile implements AutoCloseable {
  /** Stands for the atoms of a file that says nothing of a layer. */
  private static final int ANY_LAYER = -1;

  private static final Pattern ATOMS = Pattern.compile("atoms\\.(0|[1-9]\\d{0,5})");
  private static final Pattern HOOK = Pattern.compile("blocks\\.(\\d{1,6})\\..*");
  private static final int MAX_NAMES = 256 << 20;

  private final Path path;
  private final Safetensors tensors;
  private final NavigableMap<Integer, TensorView> atoms;
  private final List<String> names;

  private DictionaryFile(Path path, Safetensors tensors, NavigableMap<Integer, TensorView> atoms) {
    this.path = path;
    this.tensors = tensors;
    this.atoms = atoms;
    TensorView first = atoms.get(atoms.firstKey());
    for (TensorView view : atoms.values()) {
      if (view.rank() != 2 || !view.dtype().isFloat()) {
        throw new BadFileException(
            path, view + " is no dictionary: [n, d] in F64, F32, F16 or BF16");
      }
      if (view.size(0) < 1 || view.size(1) < 1 || view.size(0) > Integer.MAX_VALUE / 2) {
        throw new BadFileException(path, view + " has no atoms that could be used");
      }
      if (!view.hasShape(first.shape())) {
        throw new BadFileException(
            path, view + " and " + first + " differ in shape: all layers share one list of names");
      }
    }
    this.names = readNames();
    if (!names.isEmpty() && names.size() != first.size(0)) {
      throw new BadFileException(
          path, "has %,d names for %,d atoms".formatted(names.size(), first.size(0)));
    }
  }

  /**
   * Opens a dictionary; atoms are read by {@link #load}.
   *
   * @throws BadFileException if it is none of the three forms, or its names do not fit
   */
  public static DictionaryFile open(Path path) {
    boolean sae = Files.isDirectory(path);
    Safetensors tensors = Safetensors.open(sae ? path.resolve("sae_weights.safetensors") : path);
    try {
      NavigableMap<Integer, TensorView> atoms = new TreeMap<>();
      if (sae) {
        atoms.put(saeLayer(path), tensors.tensor("W_dec"));
      } else {
        for (String name : tensors.names()) {
          Matcher layer = ATOMS.matcher(name);
          if (name.equals("atoms")) {
            atoms.put(ANY_LAYER, tensors.tensor(name));
          } else if (layer.matches()) {
            atoms.put(Integer.parseInt(layer.group(1)), tensors.tensor(name));
          }
        }
      }
      if (atoms.isEmpty()) {
        throw new BadFileException(
            path, "is no dictionary: it has no tensor \"atoms\" and none \"atoms.<layer>\"");
      }
      if (atoms.size() > 1 && atoms.containsKey(ANY_LAYER)) {
        throw new BadFileException(path, "has both \"atoms\" and \"atoms.<layer>\"");
      }
      return new DictionaryFile(path, tensors, atoms);
    } catch (RuntimeException | Error e) {
      tensors.close();
      throw e;
    }
  }

  /** The layer that a SAELens configuration names, by number or in its hook. */
  private static int saeLayer(Path folder) {
    JsonObject json = JsonObject.read(folder.resolve("cfg.json"));
    if (json.has("hook_layer")) {
      return json.integer("hook_layer", 0, 999_999);
    }
    // From version 6 on the hook is among the metadata.
    JsonObject holder = json.has("metadata") ? json.object("metadata") : json;
    Matcher hook = HOOK.matcher(holder.text("hook_name", ""));
    return hook.matches() ? Integer.parseInt(hook.group(1)) : ANY_LAYER;
  }

  private List<String> readNames() {
    String inside = tensors.metadata().get("names");
    String file = tensors.file().getFileName().toString();
    Path beside =
        tensors.file().resolveSibling(file.replaceFirst("(\\.safetensors)?$", "") + ".names.json");
    try {
      if (inside != null) {
        return list(path, inside);
      }
      if (!Files.exists(beside)) {
        return List.of();
      }
      if (Files.size(beside) > MAX_NAMES) {
        throw new BadFileException(beside, "is too long for a list of names");
      }
      return list(beside, Files.readString(beside));
    } catch (IOException e) {
      throw new UncheckedIOException(beside + ": cannot be read: " + Reason.of(e), e);
    }
  }

  private static List<String> list(Path file, String json) {
    JsonObject parsed = JsonObject.parseList(file, "names", json.getBytes(StandardCharsets.UTF_8));
    return List.copyOf(parsed.texts("names"));
  }

  public Path path() {
    return path;
  }

  /** The layers that have atoms of their own; empty where the atoms are for any layer. */
  public SortedSet<Integer> layers() {
    return Collections.unmodifiableSortedSet(atoms.tailMap(0, true).navigableKeySet());
  }

  /** Number of atoms n of each layer. */
  public int size() {
    return (int) atoms.get(atoms.firstKey()).size(0);
  }

  /** Length d of an atom. */
  public int width() {
    return Math.toIntExact(atoms.get(atoms.firstKey()).size(1));
  }

  /**
   * Refuses a dictionary for another model.
   *
   * @throws BadFileException if its atoms do not have {@code dModel} values
   */
  public void requireWidth(int dModel) {
    if (width() != dModel) {
      throw new BadFileException(
          path,
          "has atoms of %,d values, but the model's d_model is %,d".formatted(width(), dModel));
    }
  }

  /** Names of all atoms; empty where the file has none. */
  public List<String> names() {
    return names;
  }

  /**
   * A concept's atom as the file has it.
   *
   * @param layer whose atoms are meant, where the file has those of several
   * @param concept a name, of which the first atom counts
   * @throws BadFileException if there is no such concept, which names the nearest, or no such layer
   */
  public float[] atom(int layer, String concept) {
    int atom = 0;
    while (atom < size() && !name(atom).equals(concept)) {
      atom++;
    }
    if (atom == size()) {
      throw new BadFileException(
          path, "has no concept \"%s\": %s".formatted(concept, hint(concept)));
    }
    float[] values = new float[width()];
    view(layer).copyFloats((long) atom * width(), values);
    for (float value : values) {
      if (!Float.isFinite(value)) {
        throw new BadFileException(path, "concept \"" + concept + "\" holds " + value);
      }
    }
    return values;
  }

  /** What else a user may have meant by a name that no atom has. */
  public String hint(String concept) {
    return Spelling.nearest(concept, names)
        .map(name -> "the nearest of its %,d is \"%s\"".formatted(size(), name))
        .orElseGet(() -> "its %,d concepts are such as \"%s\"".formatted(size(), name(0)));
  }

  /** Name of an atom: its index where the file has no names. */
  public String name(int atom) {
    return names.isEmpty() ? Integer.toString(atom) : names.get(atom);
  }

  /**
   * Reads the only dictionary of the file.
   *
   * @throws BadFileException if it has one for each of several layers, or an atom cannot be used
   */
  public Dictionary load(Device device) {
    if (atoms.size() > 1) {
      throw new BadFileException(
          path, "has dictionaries of layers " + layers() + "; say which is meant");
    }
    return load(device, atoms.get(atoms.firstKey()));
  }

  /**
   * Reads the dictionary of a layer; one that names no layer is for all.
   *
   * @throws BadFileException if there is none for this layer, or an atom cannot be used
   */
  public Dictionary load(Device device, int layer) {
    return load(device, view(layer));
  }

  private TensorView view(int layer) {
    TensorView view = atoms.containsKey(ANY_LAYER) ? atoms.get(ANY_LAYER) : atoms.get(layer);
    if (view == null) {
      throw new BadFileException(
          path, "has no dictionary of layer " + layer + "; it has layers " + layers());
    }
    return view;
  }

  private Dictionary load(Device device, TensorView view) {
    List<String> ofAtoms = new ArrayList<>(names);
    if (ofAtoms.isEmpty()) {
      IntStream.range(0, size()).mapToObj(Integer::toString).forEach(ofAtoms::add);
    }
    int d = width();
    return new Dictionary(
        device,
        path,
        ofAtoms,
        d,
        view.dtype(),
        (atom, into) -> view.copyFloats((long) atom * d, into));
  }

  @Override
  public void close() {
    tensors.close();
  }
}
