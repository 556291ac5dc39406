package dev.halter.model;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.TensorNames;
import dev.halter.weights.TensorView;

/**
 * What a model will take of a device's memory, worked out before anything is loaded. All in bytes.
 *
 * @param weights as the device holds them; on the CPU these are the mapped files
 * @param cache keys and values of all sequences
 * @param scratch activations of one step and its logits; of prompts whose lower layers are shared,
 *     the residual streams
 * @param java the heap, classes and compiled code of this process where they share the device's
 *     memory: what they take now, and what they are known to grow by; else 0
 * @param total the device's memory
 * @param free of it, before loading
 * @param limits what the model can do at once within that
 */
public record MemoryPlan(
    long weights, long cache, long scratch, long java, long total, long free, Llama.Limits limits) {
  /** What Java takes more until a model has run for a while: code, buffers, texts (measured). */
  private static final long JAVA_GROWTH = 64L << 20;

  /** Bytes that a step's logits may take. */
  private static final long LOGITS = 64L << 20;

  /** Share of the free memory that is planned with; the rest is for the driver and libraries. */
  private static final double USABLE = 0.9;

  /**
   * Plans a model.
   *
   * @param context longest sequence in tokens
   * @param sequences sequences at once
   * @param rows most tokens in a step
   * @param sharesPrefixes whether what prompts have in common is kept
   * @throws DeviceException if not even one sequence fits, naming what would help
   */
  public static MemoryPlan of(
      Device device,
      ModelConfig config,
      Checkpoint checkpoint,
      DType type,
      int context,
      int sequences,
      int rows,
      boolean sharesPrefixes) {
    Device.Memory memory = device.memory();
    long weights = weights(device, config, checkpoint, type);
    int outputs = (int) Math.max(sequences, Math.min(rows, LOGITS / 4 / config.vocabularySize()));
    long place = Attention.Form.of(device, config, type).placeBytes(config);
    long scratch =
        scratch(config, type, rows, outputs)
            + place * Attention.Work.places(0, sequences)
            + (sharesPrefixes ? LowerLayers.bytes(config, rows, 0) : 0);
    long page = KvCache.pageBytes(config, type);
    // With a page grow attention's scratch and what lower layers leave.
    long grows =
        place * Attention.Work.PLACES_A_PAGE
            + (sharesPrefixes ? LowerLayers.bytes(config, 0, 4) / 4 : 0);
    long wanted = (long) sequences * KvCache.pagesFor(context);
    long growth = memory.own() == 0 ? 0 : JAVA_GROWTH;
    long room = (usable(memory.free()) - growth - weights - scratch) / (page + grows);
    long pages = Math.min(wanted, room);
    if (pages < KvCache.pagesFor(context)) {
      throw new DeviceException(
          ("the model needs %s for weights and %s for one step, which leaves room for %,d tokens"
                  + " of the %s free; one sequence may have %,d: choose a smaller --context, fewer"
                  + " --max-batch, or --dtype bf16")
              .formatted(
                  gib(weights),
                  gib(scratch),
                  Math.max(0, room) * KvCache.PAGE,
                  gib(memory.free()),
                  context));
    }
    return of(
        device,
        config,
        checkpoint,
        type,
        new Llama.Limits(rows, outputs, sequences, (int) pages, context),
        sharesPrefixes);
  }

  /**
   * What a model with these limits takes, whether it fits or not.
   *
   * @param sharesPrefixes whether what prompts have in common is kept
   */
  public static MemoryPlan of(
      Device device,
      ModelConfig config,
      Checkpoint checkpoint,
      DType type,
      Llama.Limits limits,
      boolean sharesPrefixes) {
    Device.Memory memory = device.memory();
    long place = Attention.Form.of(device, config, type).placeBytes(config);
    return new MemoryPlan(
        weights(device, config, checkpoint, type),
        limits.pages() * KvCache.pageBytes(config, type),
        scratch(config, type, limits.rows(), limits.outputs())
            + place * Attention.Work.places(limits.pages(), limits.sequences())
            + (sharesPrefixes ? LowerLayers.bytes(config, limits.rows(), limits.pages()) : 0),
        memory.own() == 0 ? 0 : memory.own() + JAVA_GROWTH,
        memory.total(),
        memory.free(),
        limits);
  }

  private static long weights(
      Device device, ModelConfig config, Checkpoint checkpoint, DType type) {
    long weights = 0;
    for (String name : checkpoint.names()) {
      TensorView tensor = checkpoint.tensor(name);
      if (TensorNames.expected(config).containsKey(name)) {
        DType held = tensor.rank() == 1 ? DType.F32 : device.weightType(tensor.dtype(), type);
        weights += tensor.elements() * held.bytes();
      }
    }
    return weights;
  }

  /** What may be planned with of so many free bytes: the rest is for the driver and libraries. */
  public static long usable(long free) {
    return (long) (free * USABLE);
  }

  private static long scratch(ModelConfig config, DType type, int rows, int outputs) {
    int heads = config.nHeads() * config.dHead();
    int kv = config.nKvHeads() * config.dHead();
    long floats = 2L * config.dModel() + 1;
    return rows * (2L * (heads + kv) * type.bytes() + 4 * floats)
        + Positionwise.bytes(config, type, rows)
        + 4L * outputs * (config.dModel() + config.vocabularySize());
  }

  /** One line for people. */
  @Override
  public String toString() {
    return "weights %s + KV cache %s (%,d tokens) + scratch %s%s = %s of %s (%s free)"
        .formatted(
            gib(weights),
            gib(cache),
            (long) limits.pages() * KvCache.PAGE,
            gib(scratch),
            java == 0 ? "" : " + Java " + gib(java),
            gib(weights + cache + scratch + java),
            gib(total),
            gib(free));
  }

  /** Bytes for people. */
  public static String gib(long bytes) {
    return bytes < 1L << 30
        ? "%.1f MiB".formatted(bytes / (double) (1 << 20))
        : "%.1f GiB".formatted(bytes / (double) (1 << 30));
  }
}
