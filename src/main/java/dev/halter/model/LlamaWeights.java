package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.TensorNames;
import dev.halter.weights.TensorNames.Block;
import dev.halter.weights.TensorView;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Function;
import java.util.function.IntConsumer;
import java.util.function.Predicate;

/**
 * A model's weights on a device. Matrices keep the type that {@link Device#weightType} gives; on
 * the CPU they are the mapped file itself. Norms and biases are small and always f32.
 */
public final class LlamaWeights {
  /** A weight matrix [out, in], row-major: y = W x. */
  public record Linear(Buffer weight, DType type, int out, int in) {
    /** The whole of it as a factor of {@link Device#multiply}. */
    public Matrix matrix() {
      return new Matrix(weight, type, in);
    }
  }

  /**
   * One block. Projections that read the same input stand together; neighbours in memory are one
   * matrix, so {@code qkv} has 1 to 3 parts and {@code gateUp} 1 or 2. Biases are null where the
   * family has none.
   */
  public record Layer(
      Buffer ln1,
      List<Linear> qkv,
      Buffer qkvBias,
      Buffer qNorm,
      Buffer kNorm,
      Linear o,
      Buffer oBias,
      Buffer ln2,
      List<Linear> gateUp,
      Buffer gateBias,
      Buffer upBias,
      Linear down,
      Buffer downBias) {}

  private final Scope scope;
  private final Device device;
  private final DType activations;
  private final Predicate<String> writable;
  private final Checkpoint checkpoint;
  private final Linear embedding;
  private final Linear head;
  private final List<Layer> layers = new ArrayList<>();
  private final Buffer finalNorm;

  /**
   * Puts a checked checkpoint onto a device; it must stay open as long as {@code scope}, which the
   * weights live in.
   *
   * @param writable names of tensors that are never the mapped file
   * @param progress hears the number of layers that are there
   */
  LlamaWeights(
      Scope scope,
      Checkpoint checkpoint,
      ModelConfig config,
      DType activations,
      Predicate<String> writable,
      IntConsumer progress) {
    this.scope = scope;
    this.device = scope.device();
    this.checkpoint = checkpoint;
    this.activations = activations;
    this.writable = writable;
    this.embedding = matrices(TensorNames.EMBEDDING).getFirst();
    this.head = config.tieWordEmbeddings() ? embedding : matrices(TensorNames.HEAD).getFirst();
    this.finalNorm = vector(TensorNames.FINAL_NORM);
    for (int i = 0; i < config.nLayers(); i++) {
      layers.add(
          new Layer(
              gain(config, i, Block.INPUT_NORM),
              matrices(i, Block.Q, Block.K, Block.V),
              bias(config, i, Block.Q, Block.K, Block.V),
              gain(config, i, Block.Q_NORM),
              gain(config, i, Block.K_NORM),
              matrices(i, Block.O).getFirst(),
              bias(config, i, Block.O),
              gain(config, i, Block.POST_ATTENTION_NORM),
              matrices(i, Block.GATE, Block.UP),
              bias(config, i, Block.GATE),
              bias(config, i, Block.UP),
              matrices(i, Block.DOWN).getFirst(),
              bias(config, i, Block.DOWN)));
      progress.accept(i + 1);
    }
    checkpoint.requireWhole();
  }

  /** The LM head alone, for whoever decodes vectors with it. */
  public static Linear head(
      Scope scope, Checkpoint checkpoint, ModelConfig config, DType activations) {
    Device device = scope.device();
    TensorView tensor = checkpoint.tensor(TensorNames.head(config));
    if (device.sharesHostMemory()) {
      return linear(tensor, scope.upload(tensor.data()), tensor.dtype());
    }
    DType type = device.weightType(tensor.dtype(), activations);
    Buffer buffer = scope.allocate(tensor.elements() * type.bytes());
    copy(device, tensor, buffer, type);
    return linear(tensor, buffer, type);
  }

  private List<Linear> matrices(int layer, Block... projections) {
    return matrices(names(projections, part -> part.weight(layer)));
  }

  /** The gain of a norm, or null where blocks have none. */
  private Buffer gain(ModelConfig config, int layer, Block norm) {
    return norm.isPartOf(config) ? vector(norm.weight(layer)) : null;
  }

  /** The biases of projections that all have one, end to end; or null. */
  private Buffer bias(ModelConfig config, int layer, Block... projections) {
    return projections[0].hasBias(config)
        ? vector(names(projections, part -> part.bias(layer)))
        : null;
  }

  private static String[] names(Block[] parts, Function<Block, String> name) {
    return Arrays.stream(parts).map(name).toArray(String[]::new);
  }

  /** Matrices with one input, next to one another where they are copies. */
  private List<Linear> matrices(String... names) {
    List<Linear> parts = new ArrayList<>();
    if (device.sharesHostMemory() && Arrays.stream(names).noneMatch(writable)) {
      for (String name : names) {
        TensorView tensor = checkpoint.tensor(name);
        parts.add(linear(tensor, scope.upload(tensor.data()), tensor.dtype()));
      }
    } else {
      long bytes = 0;
      for (String name : names) {
        TensorView tensor = checkpoint.tensor(name);
        bytes += tensor.elements() * device.weightType(tensor.dtype(), activations).bytes();
      }
      Buffer all = scope.allocate(bytes);
      long at = 0;
      for (String name : names) {
        TensorView tensor = checkpoint.tensor(name);
        DType type = device.weightType(tensor.dtype(), activations);
        Buffer part = all.slice(at, tensor.elements() * type.bytes());
        copy(device, tensor, part, type);
        parts.add(linear(tensor, part, type));
        at += part.bytes();
      }
    }
    return merge(parts);
  }

  private static Linear linear(TensorView tensor, Buffer weight, DType type) {
    return new Linear(weight, type, (int) tensor.size(0), (int) tensor.size(1));
  }

  private static List<Linear> merge(List<Linear> parts) {
    List<Linear> merged = new ArrayList<>();
    for (Linear part : parts) {
      Linear last = merged.isEmpty() ? null : merged.getLast();
      if (last != null
          && last.type == part.type
          && last.weight.address() + last.weight.bytes() == part.weight.address()) {
        Buffer both = last.weight.extend(part.weight.bytes());
        merged.set(merged.size() - 1, new Linear(both, part.type, last.out + part.out, part.in));
      } else {
        merged.add(part);
      }
    }
    return List.copyOf(merged);
  }

  /** Uploads a tensor, converted on the device where its type is another. */
  private static void copy(Device device, TensorView tensor, Buffer to, DType type) {
    if (tensor.dtype() == type) {
      to.copyFrom(tensor.data());
      return;
    }
    String convert = ("convert_" + tensor.dtype() + "_" + type).toLowerCase(java.util.Locale.ROOT);
    try (Buffer raw = device.allocate(tensor.data().byteSize())) {
      raw.copyFrom(tensor.data());
      long elements = tensor.elements();
      int blocks = (int) Math.min(65_535, (elements + 1023) / 1024);
      long bytes = elements * (tensor.dtype().bytes() + type.bytes());
      device.launch(device.kernel(convert), bytes, Grid.of(blocks), 256, 0, to, raw, elements);
      device.synchronize();
    }
  }

  /** Small tensors end to end as f32. */
  private Buffer vector(String... names) {
    int length = 0;
    for (String name : names) {
      length += (int) checkpoint.tensor(name).elements();
    }
    Buffer buffer = scope.allocate(4L * length);
    long at = 0;
    for (String name : names) {
      float[] values = checkpoint.tensor(name).toFloats();
      buffer.slice(at).set(values);
      at += 4L * values.length;
    }
    return buffer;
  }

  /** Embedding table [vocabulary, d_model]. */
  public Linear embedding() {
    return embedding;
  }

  /** LM head [vocabulary, d_model]; the embedding itself where they are tied. */
  public Linear head() {
    return head;
  }

  /** Gain of the final norm [d_model]. */
  public Buffer finalNorm() {
    return finalNorm;
  }

  public Layer layer(int index) {
    return layers.get(index);
  }

  /** Whether projections that share their input are one matrix of this type in every layer. */
  boolean isMerged(DType type) {
    return layers.stream()
        .allMatch(
            layer ->
                layer.qkv.size() == 1
                    && layer.gateUp.size() == 1
                    && layer.qkv.getFirst().type == type);
  }

  /** The file's tensors, for whoever decodes weights rather than runs them. */
  public Checkpoint checkpoint() {
    return checkpoint;
  }
}
