package dev.halter.neurons;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.device.Top;
import dev.halter.neurons.NeuronMap.Decode;
import dev.halter.neurons.NeuronMap.Projection;
import dev.halter.neurons.NeuronMap.Settings;
import dev.halter.neurons.NeuronMap.Source;
import dev.halter.weights.TensorNames;
import dev.halter.weights.TensorView;
import java.lang.foreign.MemorySegment;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;
import java.util.function.IntConsumer;

/**
 * Fills a map, block by block of neurons: their vectors are made ready on the device ({@code
 * cuda-kernels/neuron_vectors.cu}) and go through {@link Device#multiplyTop} with the LM head.
 *
 * <p>Where a product's factors may differ in type (the CPU), vectors are f32, or the bf16 of the
 * file as they are, so nothing is rounded. Where they may not, vectors are rounded once to the
 * head's type.
 *
 * <p>While a layer is computed, the next one is copied to the device, if that has memory of its
 * own, and the one after it read from disk. There nothing waits for results until all neurons are
 * done.
 */
final class NeuronDecoder implements AutoCloseable {
  private static final int BLOCK = 256;

  /** Neurons at a time. */
  private static final int ROWS = 2048;

  /** A layer of any model. */
  private static final int LARGE_ROWS = 1 << 15;

  private final Source source;
  private final Device device;
  private final Scope scope;
  private final NeuronMap map;
  private final Settings settings;
  private final int d;
  private final int rows; // of a block
  private final DType fileType;
  private final DType type; // of the vectors
  private final Buffer turned; // [rows, d] of fileType, for columns
  private final Buffer vectors; // [rows, d] of type; null where they are the file's rows
  private final Buffer gain;
  private final Buffer norms;
  private final Top top;
  private final int capacity; // neurons that fit norms and top
  private int filled;
  private int done;
  private CompletableFuture<?> reading = CompletableFuture.completedFuture(null);

  /**
   * @param rows neurons at a time; 0 = as suits the device
   */
  NeuronDecoder(Source source, NeuronMap map, int rows) {
    this.source = source;
    this.device = source.device();
    this.map = map;
    this.settings = map.settings();
    this.d = source.config().dModel();
    boolean shared = device.sharesHostMemory();
    int most = rows > 0 ? rows : device.wantsLargePieces() ? LARGE_ROWS : ROWS;
    this.rows = Math.min(most, settings.neurons());
    this.fileType = weights(0).dtype();
    boolean asInFile = settings.decode() == Decode.RAW && fileType == DType.BF16;
    this.type = !device.mixesTypes() ? source.head().type() : asInFile ? DType.BF16 : DType.F32;
    long block = (long) this.rows * d;
    boolean columns = settings.projection() == Projection.DOWN;
    boolean rowsAsTheyAre = settings.decode() == Decode.RAW && fileType == type && !columns;
    this.capacity = shared ? this.rows : settings.layers() * settings.neurons();
    this.scope = device.scope();
    try {
      this.top = Top.allocate(scope, settings.sign().top(), settings.k(), capacity);
      this.norms = scope.allocate(4L * capacity);
      this.turned = columns ? scope.allocate(block * fileType.bytes()) : null;
      this.vectors = rowsAsTheyAre ? null : scope.allocate(block * type.bytes());
      this.gain =
          settings.decode() == Decode.NORM
              ? scope.of(source.checkpoint().tensor(TensorNames.FINAL_NORM).toFloats())
              : null;
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
  }

  /** Of a layer, counted from the shard's first. */
  private TensorView weights(int layer) {
    return source.checkpoint().tensor(settings.projection().tensor(source.firstLayer() + layer));
  }

  /** Decodes all neurons; {@code progress} hears how many have gone to the device. */
  void run(IntConsumer progress) {
    Buffer weights = upload(0);
    try {
      for (int layer = 0; layer < settings.layers(); layer++) {
        blocks(weights, layer * settings.neurons(), progress);
        Buffer next = layer + 1 < settings.layers() ? upload(layer + 1) : null;
        weights.close(); // waits for this layer's products, beside which the next came
        weights = next;
      }
    } finally {
      if (weights != null) {
        weights.close();
      }
    }
    fetch();
    source.checkpoint().requireWhole();
  }

  /** A layer's weights, [F, d] or [d, F], on the device; the next layer begins to be read. */
  private Buffer upload(int layer) {
    TensorView weights = weights(layer);
    if (weights.dtype() != fileType) {
      throw new IllegalArgumentException(
          "%s is %s, but layer 0 is %s: a map wants one type"
              .formatted(weights.name(), weights.dtype(), fileType));
    }
    reading.join();
    if (layer + 1 < settings.layers()) {
      MemorySegment next = weights(layer + 1).data();
      reading = CompletableFuture.runAsync(next::load);
    }
    return device.upload(weights.data());
  }

  private void blocks(Buffer weights, int firstNeuron, IntConsumer progress) {
    for (int first = 0; first < settings.neurons(); first += rows) {
      int count = Math.min(rows, settings.neurons() - first);
      if (filled + count > capacity) {
        fetch();
      }
      decode(weights, first, count);
      filled += count;
      progress.accept(firstNeuron + first + count);
    }
  }

  /** Queues neurons [first, first + count) of a layer. */
  private void decode(Buffer weights, int first, int count) {
    Buffer neurons =
        settings.projection() == Projection.DOWN
            ? columns(weights, first, count)
            : weights.slice((long) first * d * fileType.bytes());
    String kernel = ("neuron_vectors_" + fileType + "_" + type).toLowerCase(Locale.ROOT);
    device.launch(
        device.kernel(kernel),
        (long) count * d * (fileType.bytes() + (vectors == null ? 0 : type.bytes())),
        Grid.of(count),
        BLOCK,
        0,
        vectors,
        norms.slice(4L * filled),
        neurons,
        gain,
        d,
        (float) source.config().rmsNormEps(),
        settings.decode().number());
    device.multiplyTop(
        count,
        source.head().out(),
        d,
        new Matrix(vectors == null ? neurons : vectors, type, d),
        new Matrix(source.head().weight(), source.head().type(), d),
        top.from(filled));
  }

  /** Neurons that are columns of [d, F], as rows. */
  private Buffer columns(Buffer weights, int first, int count) {
    device.launch(
        device.kernel(fileType.bytes() == 2 ? "transpose_16" : "transpose_32"),
        2L * count * d * fileType.bytes(),
        Grid.of((count + 31) / 32, (d + 31) / 32),
        BLOCK,
        0,
        turned,
        weights.slice((long) first * fileType.bytes()),
        (long) settings.neurons(),
        d,
        count);
    return turned;
  }

  /** Moves what is on the device into the map. */
  private void fetch() {
    int lists = filled * settings.sign().top().lists();
    int values = lists * settings.k();
    int firstList = done * settings.sign().top().lists();
    int firstValue = firstList * settings.k();
    top.ids().copyTo(part(MemorySegment.ofArray(map.tokenIds()), firstValue, values));
    top.values().copyTo(part(MemorySegment.ofArray(map.logits()), firstValue, values));
    norms.copyTo(part(MemorySegment.ofArray(map.weightNorm()), done, filled));
    System.arraycopy(top.logSumExp(filled), 0, map.logZ(), firstList, lists);
    done += filled;
    filled = 0;
  }

  private static MemorySegment part(MemorySegment array, long first, long count) {
    return array.asSlice(4 * first, 4 * count);
  }

  @Override
  public void close() {
    reading.join(); // it must not touch the file once that is closed
    scope.close();
  }
}
