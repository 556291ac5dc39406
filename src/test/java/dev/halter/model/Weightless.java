package dev.halter.model;

import dev.halter.device.DType;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.Rope;
import dev.halter.weights.TensorNames;
import dev.halter.weights.TensorView;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** A model of the shape of Llama-3.1-8B for devices on which nothing runs. */
final class Weightless {
  private Weightless() {}

  static ModelConfig llama8b(int layers) {
    return new ModelConfig(
        ModelConfig.Family.LLAMA,
        4096,
        layers,
        32,
        8,
        128,
        14_336,
        128_256,
        1e-5,
        new Rope.Default(500_000),
        131_072,
        false,
        false,
        false,
        false,
        false,
        Collections.nCopies(layers, 0),
        -1,
        List.of());
  }

  /** Weights in bf16 whose memory nobody reads, but for the norms'. */
  static Checkpoint weights(ModelConfig config, Arena arena) {
    Map<String, TensorView> tensors = new HashMap<>();
    MemorySegment norm = arena.allocate(2L * config.dModel());
    TensorNames.expected(config)
        .forEach(
            (name, shape) -> {
              long bytes = Arrays.stream(shape).reduce(2, (a, b) -> a * b);
              MemorySegment data = shape.length == 1 ? norm : MemorySegment.NULL.reinterpret(bytes);
              tensors.put(name, new TensorView(name, DType.BF16, shape, data));
            });
    return Checkpoint.of("no weights", tensors);
  }
}
