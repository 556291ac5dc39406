package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.DType;
import dev.halter.device.LaunchRecorder;
import dev.halter.device.LaunchRecorder.Launch;
import dev.halter.device.cuda.TestCuda;
import dev.halter.files.Json;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.Rope;
import dev.halter.weights.TensorNames;
import dev.halter.weights.TensorView;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/**
 * What decode steps of Llama-3.1-8B in bf16 launch on a card of 132 multiprocessors: the file that
 * {@code tools/decode} makes its table of. With {@code -Dhalter.renew=true} it is written anew.
 */
class DecodeLaunchesTest {
  private static final Path FILE = Path.of("src/test/resources/decode-launches.jsonl");
  private static final int[] BATCHES = {1, 8, 32, 128};
  private static final int[] CONTEXTS = {1024, 8192};

  /** Batch, context and how much of it all rows share. */
  private static final int[][] SHARED = {{32, 1088, 1024}, {128, 1088, 1024}, {128, 8256, 8192}};

  private static ModelConfig llama8b() {
    return new ModelConfig(
        ModelConfig.Family.LLAMA,
        4096,
        32,
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
        Collections.nCopies(32, 0),
        -1,
        List.of());
  }

  /** Weights whose memory nobody reads, but for the norms'. */
  private static Checkpoint weights(ModelConfig config, Arena arena) {
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

  /**
   * A step of rows of which the first {@code shared} tokens are one prompt's, known by its pages.
   */
  private static Object step(int batch, int context, int shared) {
    Beginning prompt = new Beginning(new int[shared]);
    int pages = batch * KvCache.pagesFor(context);
    Llama.Limits limits = new Llama.Limits(batch, batch, batch, pages, context);
    ModelConfig config = llama8b();
    try (Arena arena = Arena.ofConfined();
        LaunchRecorder device = new LaunchRecorder(TestCuda.open(), 132);
        Llama model = new Llama(device, config, weights(config, arena), DType.BF16, limits)) {
      Batch tokens = new Batch();
      for (int i = 0; i < batch; i++) {
        int sequence = model.cache().open();
        model.cache().reserve(sequence, context);
        if (shared > 0 && i == 0) {
          model.cache().keep(sequence, prompt);
        } else if (shared > 0) {
          assertEquals(shared, model.cache().share(sequence, prompt));
        }
        tokens.add(sequence, context - 1, new int[] {1}, new int[1], 0);
      }
      device.launches(); // those of the checks at the start
      model.forward(tokens, null);
      List<Object> launches = new ArrayList<>();
      device.launches().forEach((launch, count) -> launches.add(told(launch, count)));
      return Json.object(
          "batch", batch, "context", context, "shared", shared, "launches", launches);
    }
  }

  private static Object told(Launch launch, int count) {
    return Json.object(
        "kernel",
        launch.kernel(),
        "launches",
        count,
        "grid",
        List.of(launch.grid().x(), launch.grid().y(), launch.grid().z()),
        "block",
        launch.block(),
        "shared",
        launch.sharedBytes(),
        "bytes",
        launch.bytes());
  }

  @Test
  void areThoseOfTheTable() throws IOException {
    StringBuilder text = new StringBuilder();
    for (int batch : BATCHES) {
      for (int context : CONTEXTS) {
        text.append(Json.text(step(batch, context, 0))).append("\n");
      }
    }
    for (int[] step : SHARED) {
      text.append(Json.text(step(step[0], step[1], step[2]))).append("\n");
    }
    if (Boolean.getBoolean("halter.renew")) {
      Files.writeString(FILE, text);
    }
    assertEquals(
        Files.readString(FILE), text.toString(), "run tools/decode, which makes the table anew");
  }
}
