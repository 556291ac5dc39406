package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.model.LlamaWeights.Linear;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * What the kernels of a decode step ask into a GPU's L2 cache ({@code cuda-kernels/prefetch.cuh}):
 * the beginning of the weights that the next product reads. From the last loads of one product to
 * the first of the next the card's memory would stand still, for the end of a launch, what lies
 * between two, and a norm; and which weights come next is known all that time. No result depends on
 * it.
 */
final class Prefetch {
  /** What a step reads of a block, in this order, and after the last one. */
  private enum Part {
    QKV,
    KV,
    O,
    GATE_UP,
    DOWN,
    HEAD;

    /** As the setting has it. */
    String word() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  private static final String PROPERTY = "halter.prefetch";

  /** What {@code auto} stands for until a card has measured more. */
  private static final String AUTO = "off";

  /** Name of {@link #ownBytes} in the setting, where it has kilobytes. */
  private static final String OWN = "own";

  private static final Pattern SIZE = Pattern.compile("0|[1-9][0-9]{0,2}");

  private final LlamaWeights weights;
  private final int layers;
  private final Map<Part, Integer> bytes;
  private final int ownBytes;
  private final String setting; // null where the device has no cache for it

  private Prefetch(
      LlamaWeights weights, int layers, Map<Part, Integer> bytes, int ownBytes, String setting) {
    this.weights = weights;
    this.layers = layers;
    this.bytes = bytes;
    this.ownBytes = ownBytes;
    this.setting = setting;
  }

  /**
   * What {@code -Dhalter.prefetch} asks for: {@code auto}, the default; {@code off}; megabytes of
   * each product, and of keys and values, or those of some, as {@code o=32,gate_up=16}. On a device
   * without {@link Device#l2Bytes} nothing is asked for.
   *
   * @param layers of the model
   * @throws IllegalArgumentException for another setting
   */
  static Prefetch of(Device device, LlamaWeights weights, int layers) {
    return of(device, weights, layers, System.getProperty(PROPERTY, "auto"));
  }

  /** As above, by the setting's value. */
  static Prefetch of(Device device, LlamaWeights weights, int layers, String wanted) {
    String chosen = wanted.equals("auto") ? AUTO : wanted;
    Map<Part, Integer> bytes = new EnumMap<>(Part.class);
    int ownBytes = 0;
    if (SIZE.matcher(chosen).matches()) {
      for (Part part : Part.values()) {
        bytes.put(part, Integer.parseInt(chosen) << 20);
      }
    } else if (!chosen.equals("off")) {
      for (String each : chosen.split(",", -1)) {
        String[] pair = each.split("=", -1);
        if (pair.length != 2 || !SIZE.matcher(pair[1]).matches()) {
          throw unknown(wanted);
        }
        int size = Integer.parseInt(pair[1]);
        if (pair[0].equals(OWN)) {
          ownBytes = size << 10;
        } else {
          bytes.put(part(pair[0], wanted), size << 20);
        }
      }
    }
    if (device.l2Bytes() == 0) {
      return new Prefetch(weights, layers, Map.of(), 0, null);
    }
    return new Prefetch(weights, layers, bytes, ownBytes, chosen);
  }

  private static Part part(String word, String wanted) {
    return Arrays.stream(Part.values())
        .filter(part -> part.word().equals(word))
        .findFirst()
        .orElseThrow(() -> unknown(wanted));
  }

  private static IllegalArgumentException unknown(String wanted) {
    return new IllegalArgumentException(
        "-D%s=%s: choose auto, off, megabytes, or those of some of %s, as o=32,down=16"
            .formatted(
                PROPERTY,
                wanted,
                Arrays.stream(Part.values()).map(Part::word).collect(Collectors.joining(", "))));
  }

  /** The same model's, asking for nothing. */
  Prefetch nothing() {
    return new Prefetch(weights, layers, Map.of(), 0, setting);
  }

  /** For people: a line, or none where the device has no cache for it. */
  List<String> details() {
    return setting == null
        ? List.of()
        : List.of(
            "weights of the next product to the L2 cache, MB: %s (-D%s)"
                .formatted(setting, PROPERTY));
  }

  /** The beginning of the q, k and v of a block, or after the last one of the LM head; or null. */
  Buffer qkv(int layer) {
    return layer < layers
        ? beginning(Part.QKV, weights.layer(layer).qkv().getFirst())
        : beginning(Part.HEAD, weights.head());
  }

  /** The beginning of a block's o, or null. */
  Buffer o(int layer) {
    return beginning(Part.O, weights.layer(layer).o());
  }

  /** The beginning of a block's gate and up, or null. */
  Buffer gateUp(int layer) {
    return beginning(Part.GATE_UP, weights.layer(layer).gateUp().getFirst());
  }

  /** The beginning of a block's down, or null. */
  Buffer down(int layer) {
    return beginning(Part.DOWN, weights.layer(layer).down());
  }

  /** Bytes of the keys and values of all rows in a block. */
  long keysAndValues() {
    return bytes.getOrDefault(Part.KV, 0);
  }

  /** In whole pieces of 16 bytes. */
  private Buffer beginning(Part part, Linear w) {
    long count = Math.min(bytes.getOrDefault(part, 0), w.weight().bytes()) / 16 * 16;
    return count == 0 ? null : w.weight().slice(0, count);
  }

  /** Bytes of each row of its own weights that a product of few rows asks for, a pair ahead. */
  int ownBytes() {
    return ownBytes;
  }

  /** The last argument of a kernel that asks: bytes of what the one before it is the address of. */
  static int bytes(Buffer next) {
    return next == null ? 0 : Math.toIntExact(next.bytes());
  }
}
