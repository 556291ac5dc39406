package dev.halter.tuning;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Scope;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.files.JsonObject;
import dev.halter.model.Head;
import dev.halter.model.Llama;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.ModelCopy;
import dev.halter.weights.Safetensors;
import dev.halter.weights.TensorNames.Block;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Gradients of whole models against torch's autograd (tools/goldens/gradients.py). */
class BackwardPassTest {
  private static final Path GOLDENS = Path.of("src/test/resources/goldens");
  private static final Llama.Limits LIMITS = new Llama.Limits(65, 1, 4, 4, 64);

  /** Of an MLP's gradients every seventh element is in the goldens. */
  private static final int KEPT = 7;

  static Stream<Arguments> models() {
    return Stream.of("llama3", "llama32", "llama-bias", "mistral", "qwen2", "qwen3")
        .flatMap(name -> TestDevices.forModels().map(device -> Arguments.of(name, device)));
  }

  /** A model, what the golden tunes of it, and its texts. */
  private record Golden(
      Path folder, ModelConfig config, List<Head> heads, List<Integer> mlps, List<Example> texts) {
    static Golden of(String name) {
      Path folder = GOLDENS.resolve(name);
      ModelConfig config = ModelConfig.read(folder.resolve("model"));
      JsonObject json = JsonObject.read(folder.resolve("gradients.json"));
      return new Golden(
          folder,
          config,
          json.texts("heads").stream().map(head -> Head.parse(head, config)).toList(),
          json.integers("mlps"),
          json.objects("sequences").stream().map(Golden::example).toList());
    }

    private static Example example(JsonObject json) {
      List<Integer> prompt = json.integers("prompt_tokens");
      List<Integer> completion = json.integers("completion_tokens");
      int[] tokens =
          Stream.of(prompt, completion).flatMap(List::stream).mapToInt(token -> token).toArray();
      return new Example(tokens, prompt.size());
    }

    int targets() {
      return texts.stream().mapToInt(Example::targets).sum();
    }

    Selection selection(Set<Block> parts) {
      return new Selection(config, heads, mlps, parts);
    }

    Gradients run(Device device, Selection selection) {
      return run(device, DType.F32, selection);
    }

    Gradients run(Device device, DType type, Selection selection) {
      try (Scope scope = device.scope();
          Llama model = Llama.load(folder.resolve("model"), device, type, LIMITS)) {
        BackwardPass pass = new BackwardPass(scope, model, selection);
        double loss = pass.run(texts, targets(), false) / targets();
        return new Gradients(loss, read(pass, selection));
      }
    }
  }

  private record Gradients(double loss, Map<Slice, float[]> of) {
    float[] all() {
      return of.entrySet().stream()
          .sorted((a, b) -> a.getKey().toString().compareTo(b.getKey().toString()))
          .map(Map.Entry::getValue)
          .reduce(new float[] {(float) loss}, BackwardPassTest::concatenate);
    }
  }

  private static float[] concatenate(float[] a, float[] b) {
    float[] both = Arrays.copyOf(a, a.length + b.length);
    System.arraycopy(b, 0, both, a.length, b.length);
    return both;
  }

  private static Map<Slice, float[]> read(BackwardPass pass, Selection selection) {
    Map<Slice, float[]> gradients = new HashMap<>();
    for (Slice slice : selection.slices()) {
      gradients.put(slice, pass.gradient(slice).toFloats((int) slice.elements()));
    }
    return gradients;
  }

  @ParameterizedTest
  @MethodSource("models")
  void gradientsEqualAutogradsAndTheLossIsTorchs(String name, Device device) {
    Golden golden = Golden.of(name);
    Selection selection = golden.selection(Selection.ALL_PARTS);
    Gradients gradients = golden.run(device, selection);
    JsonObject json = JsonObject.read(golden.folder.resolve("gradients.json"));
    double loss = json.number("loss", 0, 1000);
    assertEquals(loss, gradients.loss, 1e-5 * loss);
    compare(golden, gradients, selection, 1e-5);
  }

  /** Where only o_proj is tuned in the lowest layer, the pass ends at z. */
  @ParameterizedTest
  @MethodSource("models")
  void outputsAloneHaveTheSameGradients(String name, Device device) {
    Golden golden = Golden.of(name);
    Selection selection = golden.selection(EnumSet.of(Block.O));
    compare(golden, golden.run(device, selection), selection, 1e-5);
  }

  static Stream<Arguments> modelsInBf16() {
    return Stream.of("llama3", "llama32", "mistral", "qwen2", "qwen3")
        .flatMap(name -> TestDevices.forModels().map(device -> Arguments.of(name, device)));
  }

  /**
   * With activations in bf16 gradients are nearer to those of f64 than torch's of a run in bf16,
   * matrix by matrix.
   */
  @ParameterizedTest
  @MethodSource("modelsInBf16")
  void gradientsInBf16AreNearerThanTorchs(String name, Device device) {
    Golden golden = Golden.of(name);
    Selection selection = golden.selection(Selection.ALL_PARTS);
    Gradients gradients = golden.run(device, DType.BF16, selection);
    JsonObject json = JsonObject.read(golden.folder.resolve("gradients.json"));
    JsonObject torch = json.object("bf16");
    double loss = json.number("loss", 0, 1000);
    assertEquals(loss, gradients.loss, 2e-3 * loss);
    double[] worst = {0, 1};
    compare(
        golden,
        gradients,
        selection,
        (tensor, expected, actual) -> {
          double products = 0;
          double squares = 0;
          double expectedSquares = 0;
          double off = 0;
          for (int i = 0; i < expected.length; i++) {
            products += (double) expected[i] * actual[i];
            squares += (double) actual[i] * actual[i];
            expectedSquares += (double) expected[i] * expected[i];
            off += Math.pow((double) expected[i] - actual[i], 2);
          }
          worst[0] = Math.max(worst[0], Math.sqrt(off / expectedSquares));
          worst[1] = Math.min(worst[1], products / Math.sqrt(squares * expectedSquares));
        });
    assertTrue(worst[0] > 1e-4, "this was not in bf16");
    assertTrue(worst[0] <= torch.number("relative_l2", 0, 1), name + " is off by " + worst[0]);
    assertTrue(worst[1] >= torch.number("cosine", 0, 1), name + " turns by " + worst[1]);
  }

  private static void compare(
      Golden golden, Gradients gradients, Selection selection, double tolerance) {
    compare(
        golden,
        gradients,
        selection,
        (name, expected, actual) -> assertClose(expected, actual, tolerance, name));
  }

  /** A gradient of the goldens beside ours. */
  private interface Comparison {
    void compare(String name, float[] expected, float[] actual);
  }

  private static void compare(
      Golden golden, Gradients gradients, Selection selection, Comparison comparison) {
    try (Safetensors expected = Safetensors.open(golden.folder.resolve("gradients.safetensors"))) {
      int dHead = golden.config.dHead();
      for (Slice slice : selection.slices()) {
        float[] actual = gradients.of.get(slice);
        String part = slice.part().name().toLowerCase(Locale.ROOT);
        String tensor = slice.layer() + "." + part;
        switch (slice.part()) {
          case Q, K, V -> {
            int each = dHead * slice.columns();
            for (int i = 0; i < slice.rows() / dHead; i++) {
              String name = tensor + "." + (slice.row() / dHead + i);
              float[] head = Arrays.copyOfRange(actual, i * each, (i + 1) * each);
              comparison.compare(name, expected.tensor(name).toFloats(), head);
            }
          }
          case O -> {
            for (int i = 0; i < slice.columns() / dHead; i++) {
              String name = tensor + "." + (slice.column() / dHead + i);
              float[] head = new float[slice.rows() * dHead];
              for (int row = 0; row < slice.rows(); row++) {
                System.arraycopy(
                    actual, row * slice.columns() + i * dHead, head, row * dHead, dHead);
              }
              comparison.compare(name, expected.tensor(name).toFloats(), head);
            }
          }
          default -> {
            float[] kept = new float[(actual.length + KEPT - 1) / KEPT];
            for (int i = 0; i < kept.length; i++) {
              kept[i] = actual[i * KEPT];
            }
            comparison.compare(tensor, expected.tensor(tensor).toFloats(), kept);
          }
        }
      }
    }
  }

  /** Factors and offsets of heads' outputs, away from where they begin. */
  @ParameterizedTest
  @MethodSource("models")
  void vectorsOfHeadsHaveAutogradsGradients(String name, Device device) {
    Golden golden = Golden.of(name);
    JsonObject json = JsonObject.read(golden.folder.resolve("gradients.json"));
    for (HeadVector kind : HeadVector.values()) {
      String named = kind.name().toLowerCase(Locale.ROOT);
      Selection selection = new Selection(golden.config, golden.heads, kind);
      try (Scope scope = device.scope();
          Llama model = Llama.load(golden.folder.resolve("model"), device, DType.F32, LIMITS);
          Safetensors expected = Safetensors.open(golden.folder.resolve("gradients.safetensors"))) {
        BackwardPass pass = new BackwardPass(scope, model, selection);
        for (HeadVectors vectors : selection.vectors()) {
          pass.values(vectors).set(start(vectors));
        }
        double loss = pass.run(golden.texts, golden.targets(), false) / golden.targets();
        double torchs = json.number(named + "_loss", 0, 1000);
        assertEquals(torchs, loss, 1e-5 * torchs);
        assertNotEquals(json.number("loss", 0, 1000), loss, 2e-5 * torchs);
        for (HeadVectors vectors : selection.vectors()) {
          float[] all = pass.gradient(vectors).toFloats((int) vectors.elements());
          int d = vectors.columns();
          for (int i = 0; i < vectors.rows(); i++) {
            Head head = vectors.heads().get(i);
            String tensor = head.layer() + "." + named + "." + head.head();
            float[] gradient = Arrays.copyOfRange(all, i * d, (i + 1) * d);
            assertClose(expected.tensor(tensor).toFloats(), gradient, 1e-5, tensor);
          }
        }
      }
    }
  }

  /** As start() of tools/goldens/gradients.py. */
  private static float[] start(HeadVectors vectors) {
    float[] values = new float[(int) vectors.elements()];
    for (int i = 0; i < values.length; i++) {
      int head = vectors.heads().get(i / vectors.columns()).head();
      values[i] = (float) (0.5 * Math.cos(3.0 * (i % vectors.columns()) + head));
    }
    return values;
  }

  /** Largest difference over the largest expected value. */
  private static void assertClose(float[] expected, float[] actual, double tolerance, String what) {
    assertEquals(expected.length, actual.length, what);
    double largest = 0;
    double worst = 0;
    for (int i = 0; i < expected.length; i++) {
      largest = Math.max(largest, Math.abs(expected[i]));
      double off = Math.abs(expected[i] - actual[i]);
      worst = off <= worst ? worst : off; // NaN stays
    }
    assertTrue(largest > 0, what + " is not moved at all");
    double difference = worst / largest;
    assertTrue(difference <= tolerance, () -> what + " differs by " + difference);
  }

  /** A step against the gradient changes the loss by what the gradient says. */
  @Test
  void finiteDifferencesAgree(@TempDir Path folder) {
    Golden golden = Golden.of("llama-bias"); // in f32, so that small steps are not rounded
    Selection selection = golden.selection(Selection.ALL_PARTS);
    try (Device device = CpuDevice.open(2)) {
      Gradients gradients = golden.run(device, selection);
      for (Slice slice : selection.slices()) {
        float[] slope = gradients.of.get(slice);
        double squares = 0;
        for (float value : slope) {
          squares += (double) value * value;
        }
        double step = 0.01 / Math.sqrt(squares); // the loss moves by 0.01 of a nat, or so
        double[] losses = new double[2];
        for (int side = 0; side < 2; side++) {
          Path moved = folder.resolve(slice.hashCode() + "." + side);
          move(golden.folder.resolve("model"), moved, slice, slope, side == 0 ? step : -step);
          try (Scope scope = device.scope();
              Llama model = Llama.load(moved, device, DType.F32, LIMITS)) {
            losses[side] =
                new BackwardPass(scope, model, selection).run(golden.texts, 1, false)
                    / golden.targets();
          }
        }
        double found = (losses[0] - losses[1]) / (2 * step);
        assertEquals(squares, found, 5e-3 * squares, slice.toString());
      }
    }
  }

  private static void move(Path model, Path to, Slice slice, float[] slope, double step) {
    try (ModelCopy copy = ModelCopy.of(model, to);
        Safetensors tensors = Safetensors.open(model.resolve("model.safetensors"))) {
      String name = slice.tensor();
      float[] weights = tensors.tensor(name).toFloats();
      int width = (int) tensors.tensor(name).size(1);
      for (int row = 0; row < slice.rows(); row++) {
        float[] values = new float[slice.columns()];
        int from = (slice.row() + row) * width + slice.column();
        for (int i = 0; i < values.length; i++) {
          values[i] = (float) (weights[from + i] + step * slope[row * slice.columns() + i]);
        }
        copy.set(name, from, 1, values);
      }
      copy.finish();
    }
  }

  /** A batch of several texts is worth their gradients one by one. */
  @Test
  void packedEqualsUnpacked() {
    Golden golden = Golden.of("mistral");
    Selection selection = golden.selection(Selection.ALL_PARTS);
    try (Device device = CpuDevice.open(2)) {
      Gradients together = golden.run(device, selection);
      Map<Slice, float[]> sums;
      double loss = 0;
      try (Scope scope = device.scope();
          Llama model = Llama.load(golden.folder.resolve("model"), device, DType.F32, LIMITS)) {
        BackwardPass pass = new BackwardPass(scope, model, selection);
        for (Example text : golden.texts) {
          loss += pass.run(List.of(text), golden.targets(), loss > 0);
        }
        sums = read(pass, selection);
      }
      assertEquals(together.loss, loss / golden.targets(), 1e-12);
      sums.forEach((slice, sum) -> assertClose(sum, together.of.get(slice), 2e-6, slice + ""));
    }
  }

  private static float[] sum(float[] a, float[] b) {
    float[] sums = new float[a.length];
    for (int i = 0; i < a.length; i++) {
      sums[i] = a[i] + b[i];
    }
    return sums;
  }

  @ParameterizedTest
  @EnumSource(
      value = DType.class,
      names = {"F32", "BF16"})
  void theBitsAreTheSameEveryTimeAndOnAnyNumberOfThreads(DType type) {
    Golden golden = Golden.of("qwen3");
    Selection selection = golden.selection(Selection.ALL_PARTS);
    float[][] runs = new float[3][];
    for (int i = 0; i < 3; i++) {
      try (Device device = CpuDevice.open(1 + i / 2)) {
        runs[i] = golden.run(device, type, selection).all();
      }
    }
    assertArrayEquals(runs[0], runs[1]);
    assertArrayEquals(runs[0], runs[2]);
  }

  @Test
  void moreTokensThanAChunkOfLogitsAreTheSumOfItsParts() {
    Golden golden = Golden.of("llama3");
    int[] tokens = IntStream.range(0, 600).map(i -> 3 + i * 31 % 120).toArray();
    Example text = new Example(tokens, 1);
    Selection selection =
        new Selection(golden.config, List.of(new Head(2, 1)), List.of(), EnumSet.of(Block.O));
    Llama.Limits limits = new Llama.Limits(600, 1, 2, 12, 600);
    try (Device device = CpuDevice.open(2);
        Scope scope = device.scope();
        Llama model = Llama.load(golden.folder.resolve("model"), device, DType.F32, limits)) {
      BackwardPass pass = new BackwardPass(scope, model, selection);
      double whole = pass.run(List.of(text), 1, false);
      float[] gradient = read(pass, selection).values().iterator().next();
      double parts = 0;
      float[] sum = new float[gradient.length];
      for (int from = 1; from < 600; from += 200) { // the same loss, 200 tokens of it at a time
        Example part = new Example(Arrays.copyOf(tokens, Math.min(600, from + 200)), from);
        parts += pass.run(List.of(part), 1, false);
        sum = sum(sum, read(pass, selection).values().iterator().next());
      }
      assertEquals(whole, parts, 1e-6 * whole);
      assertClose(sum, gradient, 1e-5, "gradient");
    }
  }

  @Test
  void refusesWhatCannotBeTuned() {
    ModelConfig config = Golden.of("llama3").config;
    Set<Block> all = Selection.ALL_PARTS;
    for (Head head : List.of(new Head(3, 0), new Head(0, 6))) {
      assertThrows(
          IllegalArgumentException.class,
          () -> new Selection(config, List.of(head), List.of(), all));
    }
    assertThrows(
        IllegalArgumentException.class, () -> new Selection(config, List.of(), List.of(3), all));
    assertThrows(
        IllegalArgumentException.class, () -> new Selection(config, List.of(), List.of(), all));
    assertThrows(IllegalArgumentException.class, () -> new Example(new int[] {1, 2}, 2));
    assertThrows(IllegalArgumentException.class, () -> new Example(new int[] {1, 2}, 0));
  }

  @Test
  void headsOfAGroupShareKeysAndNeighboursAreOneSlice() {
    ModelConfig config = Golden.of("llama3").config; // 6 heads in 2 groups, d_head 8
    List<Head> heads = Stream.of(0, 1, 5).map(head -> new Head(1, head)).toList();
    Selection selection = new Selection(config, heads, List.of(), Selection.ALL_PARTS);
    assertEquals(
        List.of(
            new Slice(1, Block.Q, 0, 16, 0, 48),
            new Slice(1, Block.Q, 40, 8, 0, 48),
            new Slice(1, Block.K, 0, 16, 0, 48),
            new Slice(1, Block.V, 0, 16, 0, 48),
            new Slice(1, Block.O, 0, 48, 0, 16),
            new Slice(1, Block.O, 0, 48, 40, 8)),
        selection.slices());
    assertEquals(1, selection.lowestLayer());
    assertEquals(24 * 48 + 2 * 16 * 48 + 48 * 24, selection.parameters());
  }
}
