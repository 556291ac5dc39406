package dev.halter.bench;

import dev.halter.device.DType;
import dev.halter.generation.LanguageModel;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.TensorNames;
import dev.halter.weights.TensorView;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.stream.IntStream;

/**
 * Models that are only measured. A folder with weights is opened as any; one that holds a {@code
 * config.json} alone gets random weights from memory, so that 16 GB need neither be drawn nor
 * written nor read: all tensors are views of one block of random numbers, just larger than the
 * largest of them. Their scale is that of a trained model, so that activations stay finite in bf16
 * and greedy tokens vary.
 */
final class BenchModel {
  private BenchModel() {}

  /**
   * Opens a model that reads every prompt whole, however often it comes.
   *
   * @param dtype of activations, and of random weights: f32 or bf16
   * @param context longest sequence
   * @param maxBatch sequences at once
   */
  static LanguageModel open(
      Path folder, String device, String dtype, int threads, int context, int maxBatch) {
    LanguageModel.Opening opening =
        LanguageModel.at(folder)
            .device(device)
            .dtype(dtype)
            .threads(threads)
            .context(context)
            .maxBatch(maxBatch)
            .sharePrefixes(false);
    if (Files.exists(folder.resolve("model.safetensors"))
        || Files.exists(folder.resolve("model.safetensors.index.json"))) {
      return opening.open();
    }
    ModelConfig config = ModelConfig.read(folder);
    DType type = DType.valueOf(dtype.toUpperCase(Locale.ROOT));
    return opening.weights(random(config, type)).open();
  }

  /** Random weights of a model, from memory. */
  static Checkpoint random(ModelConfig config, DType type) {
    Map<String, long[]> shapes = TensorNames.expected(config);
    long largest = shapes.values().stream().mapToLong(BenchModel::elements).max().orElseThrow();
    long count = largest + (1 << 20);
    MemorySegment numbers = numbers(count, type, Math.sqrt(3.0 / config.dModel()));
    MemorySegment ones = Arena.global().allocate((long) config.dModel() * type.bytes());
    for (long i = 0; i < config.dModel(); i++) {
      set(ones, i, type, 1);
    }
    Map<String, TensorView> tensors = new HashMap<>();
    long from = 0;
    for (Map.Entry<String, long[]> shape : shapes.entrySet()) {
      String name = shape.getKey();
      long elements = elements(shape.getValue());
      boolean norm = name.endsWith("norm.weight");
      from = (from + 8 * 12_347) % (count - elements);
      MemorySegment data =
          norm
              ? ones.asSlice(0, elements * type.bytes())
              : numbers.asSlice(from * type.bytes(), elements * type.bytes());
      tensors.put(name, new TensorView(name, type, shape.getValue(), data));
    }
    return Checkpoint.of("random weights", tensors);
  }

  private static long elements(long[] shape) {
    long elements = 1;
    for (long size : shape) {
      elements *= size;
    }
    return elements;
  }

  /** Uniform numbers between -limit and limit, drawn by all cores; the process keeps them. */
  private static MemorySegment numbers(long count, DType type, double limit) {
    MemorySegment numbers = Arena.global().allocate(count * type.bytes(), 64);
    int chunk = 1 << 20;
    IntStream.range(0, Math.toIntExact((count + chunk - 1) / chunk))
        .parallel()
        .forEach(
            part -> {
              long state = part + 1;
              long end = Math.min(count, (part + 1L) * chunk);
              for (long i = (long) part * chunk; i < end; i++) {
                state = state * 6364136223846793005L + 1442695040888963407L;
                set(numbers, i, type, (float) ((state >> 40) * 0x1p-23 * limit));
              }
            });
    return numbers;
  }

  private static void set(MemorySegment to, long index, DType type, float value) {
    if (type == DType.F32) {
      to.setAtIndex(ValueLayout.JAVA_FLOAT, index, value);
    } else {
      to.setAtIndex(ValueLayout.JAVA_SHORT, index, (short) (Float.floatToRawIntBits(value) >>> 16));
    }
  }
}
