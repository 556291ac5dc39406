package dev.halter.steering;

import dev.halter.device.DType;
import dev.halter.files.BadFileException;
import dev.halter.model.Edit;
import dev.halter.model.Head;
import dev.halter.model.Site;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.Safetensors;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import dev.halter.weights.TensorView;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Affine maps z → A z + b of chosen heads' outputs, as a file that {@code head_affine} names:
 * safetensors with {@code heads} I32 [n, 2] (layer, head), {@code A} F32 [n, d_head, d_head] and
 * {@code b} F32 [n, d_head].
 *
 * @param fingerprint of the model that they were made for
 * @param facts how they were made: further entries of the file's metadata
 * @param heads each at most once
 * @param a [n, d_head, d_head], row-major
 * @param b [n, d_head]
 */
public record HeadControl(
    String fingerprint, Map<String, String> facts, List<Head> heads, float[] a, float[] b) {
  private static final String FORMAT = "halter head control";
  private static final String VERSION = "1";

  public HeadControl {
    facts = Map.copyOf(facts);
    heads = List.copyOf(heads);
  }

  /** Elements of z of one head. */
  public int dHead() {
    return heads.isEmpty() ? 0 : b.length / heads.size();
  }

  /** Only those of these heads. */
  public HeadControl only(List<Head> chosen) {
    int d = dHead();
    float[] chosenA = new float[chosen.size() * d * d];
    float[] chosenB = new float[chosen.size() * d];
    for (int i = 0; i < chosen.size(); i++) {
      int from = heads.indexOf(chosen.get(i));
      if (from < 0) {
        throw new IllegalArgumentException(
            "head " + chosen.get(i) + " has no map; there are maps of " + heads);
      }
      System.arraycopy(a, from * d * d, chosenA, i * d * d, d * d);
      System.arraycopy(b, from * d, chosenB, i * d, d);
    }
    return new HeadControl(fingerprint, facts, chosen, chosenA, chosenB);
  }

  /** The maps z → (1 − s) z + s (A z + b) of a strength s. */
  public HeadControl at(float strength) {
    return new HeadControl(
        fingerprint,
        facts,
        heads,
        Edit.HeadAffine.scaledMaps(a, dHead(), strength),
        Edit.HeadAffine.scaledOffsets(b, strength));
  }

  /**
   * The edits of all layers at a strength, one map of each head. With strength 0 nothing is edited.
   */
  public List<Edit> edits(float strength) {
    HeadControl control = at(strength);
    List<Edit> edits = new ArrayList<>();
    for (int layer : heads.stream().mapToInt(Head::layer).sorted().distinct().toArray()) {
      List<Head> edited =
          strength == 0 ? List.of() : heads.stream().filter(h -> h.layer() == layer).toList();
      HeadControl ofLayer = control.only(edited);
      int[] list = edited.stream().mapToInt(Head::head).toArray();
      edits.add(
          new Edit.HeadAffine(
              new Site(Site.Kind.Z, layer), list, ofLayer.a, ofLayer.b, fingerprint));
    }
    return edits;
  }

  /** Writes the file; readers see the whole file or none. */
  public void write(Path file) {
    Map<String, String> metadata = new HashMap<>(facts);
    metadata.put("format", FORMAT);
    metadata.put("version", VERSION);
    metadata.put("fingerprint", fingerprint);
    int n = heads.size();
    int d = dHead();
    int[] list =
        heads.stream().flatMapToInt(h -> Arrays.stream(new int[] {h.layer(), h.head()})).toArray();
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            file,
            metadata,
            List.of(
                new TensorSpec("heads", DType.I32, n, 2),
                new TensorSpec("A", DType.F32, n, d, d),
                new TensorSpec("b", DType.F32, n, d)))) {
      out.write("heads", list);
      out.write("A", a);
      out.write("b", b);
    }
  }

  /** Whether a file says that it is a head control; {@link #read} tells whether it can be used. */
  public static boolean isOne(Safetensors file) {
    return FORMAT.equals(file.metadata().get("format"));
  }

  /**
   * Reads a file.
   *
   * @throws BadFileException if it is none, or its heads are not those of such a model
   */
  public static HeadControl read(Path file, ModelConfig config) {
    try (Safetensors in = Safetensors.open(file)) {
      Map<String, String> facts = new HashMap<>(in.metadata());
      if (!FORMAT.equals(facts.remove("format"))) {
        throw new BadFileException(file, "is no head control: make one with halter heads fit");
      }
      String version = facts.remove("version");
      if (!VERSION.equals(version)) {
        throw new BadFileException(
            file, "is a head control of version " + version + ", not " + VERSION);
      }
      String fingerprint = facts.remove("fingerprint");
      TensorView list = in.tensor("heads");
      long n = list.rank() == 2 ? list.size(0) : 0;
      int d = config.dHead();
      TensorView a = in.tensor("A");
      TensorView b = in.tensor("b");
      if (fingerprint == null || n == 0 || !list.hasShape(n, 2)) {
        throw new BadFileException(file, "has damaged metadata or no heads");
      }
      if (!a.hasShape(n, d, d) || !b.hasShape(n, d)) {
        throw new BadFileException(
            file,
            "has %s and %s, but this model needs A [%d, %d, %d] and b [%d, %d]"
                .formatted(a, b, n, d, d, n, d));
      }
      int[] places = list.toInts();
      List<Head> heads = new ArrayList<>();
      for (int i = 0; i < places.length; i += 2) {
        Head head = new Head(places[i], places[i + 1]);
        if (!head.isOf(config) || heads.contains(head)) {
          throw new BadFileException(
              file,
              "names head %s, but heads are distinct, of layers 0 to %d, heads 0 to %d"
                  .formatted(head, config.nLayers() - 1, config.nHeads() - 1));
        }
        heads.add(head);
      }
      HeadControl control = new HeadControl(fingerprint, facts, heads, a.toFloats(), b.toFloats());
      control.requireFinite(file);
      return control;
    }
  }

  private void requireFinite(Path file) {
    for (float[] values : List.of(a, b)) {
      for (float value : values) {
        if (!Float.isFinite(value)) {
          throw new BadFileException(file, "holds " + value + ", must be finite numbers");
        }
      }
    }
  }
}
