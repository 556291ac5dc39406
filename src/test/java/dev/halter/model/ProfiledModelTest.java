package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Profile;
import dev.halter.device.ProfiledDevice;
import dev.halter.device.cuda.TestCuda;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** A model's bits with a profile, and the bytes of its kernels against values made by hand. */
class ProfiledModelTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#forModels";
  private static final Path GOLDENS = Path.of("src/test/resources/goldens");
  private static final int PROMPT = 70; // more than a page
  private static final int STEPS = 3;

  /** Logits of a prompt's last token and of the steps after it. */
  private static float[] run(Device device, Path folder, DType type) {
    int tokens = PROMPT + STEPS;
    try (Llama model =
        Llama.load(folder, device, type, new Llama.Limits(PROMPT, 1, 1, 2, tokens))) {
      int sequence = model.cache().open();
      model.cache().reserve(sequence, tokens);
      int[] prompt = new int[PROMPT];
      for (int i = 0; i < PROMPT; i++) {
        prompt[i] = 3 + i % 50;
      }
      int v = model.config().vocabularySize();
      float[] logits = new float[(1 + STEPS) * v];
      for (int step = 0; step <= STEPS; step++) {
        Batch batch = new Batch();
        if (step == 0) {
          batch.add(sequence, 0, prompt, new int[PROMPT], PROMPT - 1);
        } else {
          batch.add(sequence, PROMPT + step - 1, new int[] {7}, new int[1], 0);
        }
        System.arraycopy(model.forward(batch, null).toFloats(v), 0, logits, step * v, v);
      }
      return logits;
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void profilesChangeNoBits(Device device) {
    Path folder = GOLDENS.resolve("llama3/model");
    float[] f32 = run(device, folder, DType.F32);
    float[] bf16 = run(device, folder, DType.BF16);
    try (ProfiledDevice profiled = new ProfiledDevice(device, table -> {})) {
      assertArrayEquals(f32, run(profiled, folder, DType.F32));
      assertArrayEquals(bf16, run(profiled, folder, DType.BF16));
    }
  }

  /** With the kernels that all devices have. */
  private static Map<String, Profile.Row> profile(Device device, String model, DType type) {
    System.setProperty("halter.few_rows", "cublas");
    try (ProfiledDevice profiled = new ProfiledDevice(device, table -> {})) {
      run(profiled, GOLDENS.resolve(model).resolve("model"), type);
      return rows(profiled);
    } finally {
      System.clearProperty("halter.few_rows");
    }
  }

  private static Map<String, Profile.Row> rows(ProfiledDevice device) {
    return device.profile().rows().stream()
        .collect(Collectors.toMap(Profile.Row::name, Function.identity()));
  }

  private static void assertMoved(
      Map<String, Profile.Row> rows, String name, long launches, long bytes) {
    Profile.Row row = rows.get(name);
    assertEquals(launches, row.launches(), name);
    assertEquals(bytes, row.bytes(), name);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void bytesAreThoseOfTheContracts(Device device) {
    ModelConfig config = ModelConfig.read(GOLDENS.resolve("llama3/model"));
    long d = config.dModel();
    long f = config.dMlp();
    long h = config.nHeads();
    long kv = config.nKvHeads();
    long dHead = config.dHead();
    long layers = config.nLayers();
    long tokens = PROMPT + STEPS;
    long steps = 1 + STEPS;
    Map<String, Profile.Row> rows = profile(device, "llama3", DType.F32);
    DType held = device.weightType(DType.BF16, DType.F32); // the file's are bf16
    String suffix = held.name().toLowerCase(Locale.ROOT);
    assertMoved(rows, "embed_" + suffix, steps, tokens * d * (held.bytes() + 4));
    // Of the prompt only the last row goes on after the last attention.
    long end = PROMPT - 1;
    assertMoved(rows, "gather_rows", steps + 1, (steps * d + h * dHead) * 8);
    // The first norm, and the last of what is gathered; the others come with the adds.
    assertMoved(rows, "rmsnorm_f32", 2 * steps, (tokens + steps) * d * 8);
    assertMoved(
        rows,
        "add_rmsnorm_f32",
        (2 * layers - 1) * steps,
        ((2 * layers - 1) * tokens - end) * d * 16);
    assertMoved(rows, "residual_add_f32", steps, (tokens - end) * d * 12);
    assertMoved(rows, "gated_mlp_f32", layers * steps, (layers * tokens - end) * f * 12);
    assertMoved(
        rows, "rope_append_f32", layers * steps, layers * tokens * (2 * h + 5 * kv) * dHead * 4);
    // Tiles of 16 / (h / kv) tokens: each reads whole pages of keys, and the values that it sees.
    int rowsOfTile = (int) (16 / (h / kv));
    long cells = 0;
    for (int first = 0; first < PROMPT; first += rowsOfTile) {
      int seen = Math.min(PROMPT, first + rowsOfTile);
      cells += (seen > 64 ? 128 : 64) + seen;
    }
    for (int step = 1; step <= STEPS; step++) {
      cells += 128 + PROMPT + step;
    }
    assertMoved(
        rows, "attention_f32", layers * steps, layers * 4 * dHead * (kv * cells + 2 * tokens * h));
    long v = config.vocabularySize();
    String head = "product by [%d, %d] f32 x %s".formatted(v, d, suffix);
    assertMoved(rows, head, steps, steps * (4 * d + v * d * held.bytes() + 4 * v));
    assertEquals(steps * 2 * v * d, rows.get(head).operations());
  }

  /** Biases of all kinds, and heads of another width. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void biasesCount(Device device) {
    ModelConfig config = ModelConfig.read(GOLDENS.resolve("llama-bias/model"));
    long tokens = PROMPT + STEPS;
    long steps = 1 + STEPS;
    long layers = config.nLayers();
    long end = PROMPT - 1; // rows that do not go on after the last attention
    Map<String, Profile.Row> rows = profile(device, "llama-bias", DType.F32);
    long heads = 2L * config.nHeads() + 5L * config.nKvHeads(); // biases come in passing
    assertMoved(
        rows, "rope_append_f32", layers * steps, layers * tokens * heads * config.dHead() * 4);
    assertMoved(
        rows, "gated_mlp_f32", layers * steps, (layers * tokens - end) * config.dMlp() * 5 * 4);
    assertMoved(rows, "residual_add_f32", steps, (tokens - end) * config.dModel() * (8 + 4 + 4));
    assertMoved(
        rows,
        "add_rmsnorm_f32",
        (2 * layers - 1) * steps,
        ((2 * layers - 1) * tokens - end) * config.dModel() * (12 + 3 * 4));
  }

  /**
   * On CUDA, with heads of 64, kernels on tensor cores that every card has: a prompt's, and those
   * that split a row's keys.
   */
  @Test
  void tensorCoresCount() {
    ModelConfig config = AttentionRun.config(4, 2, 64, 0);
    int tokens = 200;
    try (ProfiledDevice device = new ProfiledDevice(TestCuda.open(), table -> {});
        AttentionRun run =
            new AttentionRun(device, DType.BF16, config, Attention.Form.sm80(config), tokens, 1)) {
      float[][] values = AttentionRun.random(config, DType.BF16, tokens, 1);
      int sequence = run.open(tokens);
      run.step(null, new AttentionRun.Part(sequence, 0, Arrays.copyOf(values, 64)));
      run.append(new AttentionRun.Part(sequence, 64, Arrays.copyOfRange(values, 64, tokens - 1)));
      float[][] last = {values[tokens - 1]};
      run.step(null, new AttentionRun.Part(sequence, tokens - 1, last));
      Map<String, Profile.Row> rows = rows(device);
      long z = 4 * 64 * 2; // of a row, as its queries
      long page = 2 * 64 * 64 * 2; // keys and values of a KV head
      // 32 tokens of 2 heads of a group are a tile.
      assertMoved(rows, "attention_sm80_64", 1, 2 * 2 * page + 64 * 2 * z);
      // The last row sees 4 pages in 2 splits; each leaves sums of 64 and 4 floats more of 4 heads.
      long scratch = 2 * 4 * 4 * (64 + 4);
      assertMoved(rows, "attention_split_sm80_64", 1, 2 * 4 * page + 2 * z + 2 * scratch);
    }
  }

  /**
   * On CUDA, what a step of few rows launches for a block: products with all that stands beside
   * them, and attention. Bytes are those of the contracts.
   */
  @Test
  void fewRowsTakeFourLaunchesBesideAttention() {
    System.setProperty("halter.few_rows", "portable"); // for more rows than one, and both types
    try {
      countLaunchesOfFewRows();
    } finally {
      System.clearProperty("halter.few_rows");
    }
  }

  private static void countLaunchesOfFewRows() {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      try (ProfiledDevice device = new ProfiledDevice(TestCuda.open(), table -> {})) {
        Map<String, Profile.Row> rows = launchesOfAStep(device, "llama3", type, 3);
        String suffix = "_" + type.name().toLowerCase(Locale.ROOT);
        ModelConfig config = ModelConfig.read(GOLDENS.resolve("llama3/model"));
        long layers = config.nLayers();
        long d = config.dModel();
        long f = config.dMlp();
        long heads = (long) config.nHeads() * config.dHead();
        long kv = (long) config.nKvHeads() * config.dHead();
        long bytes = type.bytes();
        assertMoved(
            rows,
            "multiply_few_rope" + suffix,
            layers,
            layers * bytes * (d * (heads + 2 * kv) + 3 * (d + heads + 4 * kv)));
        assertMoved(
            rows, "multiply_few_gate" + suffix, layers, layers * bytes * (2 * d * f + 3 * (d + f)));
        assertMoved(
            rows,
            "multiply_few_add" + suffix,
            2 * layers,
            layers * (bytes * (d * heads + d * f + 3 * (heads + f + 2 * d)) + 2 * 3 * 8 * d));
        // Embedding, gather, final norm, LM head; and attention's own.
        assertEquals(4 + layers * 5, launches(rows), rows.keySet().toString());
      }
      // Norms of heads stand between product and rotation.
      try (ProfiledDevice device = new ProfiledDevice(TestCuda.open(), table -> {})) {
        Map<String, Profile.Row> rows = launchesOfAStep(device, "qwen3", type, 8);
        long layers = ModelConfig.read(GOLDENS.resolve("qwen3/model")).nLayers();
        assertEquals(4 + layers * 6, launches(rows), rows.keySet().toString());
      }
    }
  }

  private static long launches(Map<String, Profile.Row> rows) {
    return rows.values().stream()
        .filter(row -> !row.name().contains("copy"))
        .mapToLong(Profile.Row::launches)
        .sum();
  }

  /** Those of one step with a row of each of some sequences, by name. */
  private static Map<String, Profile.Row> launchesOfAStep(
      ProfiledDevice device, String model, DType type, int sequences) {
    Path folder = GOLDENS.resolve(model).resolve("model");
    Llama.Limits limits = new Llama.Limits(sequences, sequences, sequences, sequences, 64);
    try (Llama llama = Llama.load(folder, device, type, limits)) {
      Map<String, Profile.Row> before = rows(device);
      Batch batch = new Batch();
      for (int i = 0; i < sequences; i++) {
        int sequence = llama.cache().open();
        llama.cache().reserve(sequence, 1);
        batch.add(sequence, 0, new int[] {7}, new int[1], 0);
      }
      llama.forward(batch, null);
      device.synchronize();
      Map<String, Profile.Row> after = rows(device);
      before.forEach(
          (name, row) ->
              after.computeIfPresent(
                  name,
                  (n, all) ->
                      all.launches() == row.launches()
                          ? null
                          : new Profile.Row(
                              n,
                              all.launches() - row.launches(),
                              all.nanoseconds() - row.nanoseconds(),
                              all.bytes() - row.bytes(),
                              all.operations() - row.operations())));
      return after;
    }
  }
}
