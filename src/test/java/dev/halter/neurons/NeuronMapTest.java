package dev.halter.neurons;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Profile;
import dev.halter.device.ProfiledDevice;
import dev.halter.device.SameBits;
import dev.halter.device.ScarceDevice;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.files.BadFileException;
import dev.halter.model.Llama;
import dev.halter.neurons.NeuronMap.Decode;
import dev.halter.neurons.NeuronMap.Projection;
import dev.halter.neurons.NeuronMap.Sign;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class NeuronMapTest {
  private static final Path GOLDENS = Path.of("src/test/resources/goldens");
  private static final Path MODEL = GOLDENS.resolve("llama3/model"); // 3 layers of 80 neurons
  private static final Llama.Limits LIMITS = new Llama.Limits(8, 8, 1, 1, 64);

  static Stream<Device> devices() {
    return TestDevices.forModels();
  }

  @Test
  void everyProjectionDecodingAndSignAgreesWithDoubleArithmetic() {
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, device, DType.F32, LIMITS)) {
      for (Projection projection : Projection.values()) {
        for (Decode decode : Decode.values()) {
          check(model, map(model, projection, decode, Sign.BOTH, 5));
        }
      }
      check(model, map(model, Projection.UP, Decode.RAW, Sign.PLUS, 1));
      check(model, map(model, Projection.DOWN, Decode.UNIT, Sign.MINUS, 64));
    }
  }

  /** Memory that runs out at any allocation: a clear error, and nothing is left of the map. */
  @Test
  void aMapThatDoesNotFitLeavesNothing() {
    try (ScarceDevice device = new ScarceDevice(CpuDevice.open(2));
        Llama model = Llama.load(MODEL, device, DType.F32, LIMITS)) {
      int layers = model.config().nLayers();
      int allocations =
          device.assertNothingLeaks(() -> map(model, Projection.DOWN, Decode.NORM, Sign.BOTH, 2));
      assertEquals(7 + layers, allocations); // with each layer's weights
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void aProfileTellsTheBytesOfAMap(Device plain) {
    try (ProfiledDevice device = new ProfiledDevice(plain, table -> {})) {
      try (Llama model = Llama.load(MODEL, device, DType.F32, LIMITS)) {
        map(model, Projection.DOWN, Decode.NORM, Sign.BOTH, 2);
      }
      Map<String, Long> bytes =
          device.profile().rows().stream()
              .collect(Collectors.toMap(Profile.Row::name, Profile.Row::bytes));
      long elements = 3 * 80 * 48;
      assertEquals(elements * (2 + 2), bytes.get("transpose_16"));
      assertEquals(elements * (2 + 4), bytes.get("neuron_vectors_bf16_f32"));
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void everyDeviceAgreesWithDoubleArithmetic(Device device) {
    try (Llama model = Llama.load(MODEL, device, DType.F32, LIMITS)) {
      check(model, map(model, Projection.UP, Decode.RAW, Sign.BOTH, 3));
      check(model, map(model, Projection.DOWN, Decode.NORM, Sign.MINUS, 1));
      check(model, map(model, Projection.GATE, Decode.UNIT, Sign.PLUS, 2));
    }
  }

  private static NeuronMap.Source source(Llama model) {
    return new NeuronMap.Source(
        model.device(), model.config(), model.weights().checkpoint(), model.weights().head());
  }

  private static NeuronMap map(
      Llama model, Projection projection, Decode decode, Sign sign, int k) {
    List<Integer> progress = new ArrayList<>();
    NeuronMap map = NeuronMap.of(model, projection, decode, sign, k, progress::add);
    assertEquals(3 * 80, progress.getLast());
    return map;
  }

  /** Recomputes some neurons of each layer from the checkpoint. */
  private static void check(Llama model, NeuronMap map) {
    NeuronMap.Settings s = map.settings();
    Checkpoint checkpoint = model.weights().checkpoint();
    int d = model.config().dModel();
    float[] head = checkpoint.tensor("lm_head.weight").toFloats();
    float[] gain = checkpoint.tensor("model.norm.weight").toFloats();
    for (int layer = 0; layer < s.layers(); layer++) {
      String proj = s.projection().name().toLowerCase(Locale.ROOT);
      float[] weights =
          checkpoint.tensor("model.layers." + layer + ".mlp." + proj + "_proj.weight").toFloats();
      for (int neuron = 0; neuron < s.neurons(); neuron += 13) {
        double[] w = new double[d];
        double squares = 0;
        for (int i = 0; i < d; i++) {
          boolean down = s.projection() == Projection.DOWN;
          w[i] = weights[down ? i * s.neurons() + neuron : neuron * d + i];
          squares += w[i] * w[i];
        }
        double norm = Math.sqrt(squares);
        assertEquals(norm, map.weightNorm()[layer * s.neurons() + neuron], 1e-5 * norm);
        double rms = Math.sqrt(squares / d + model.config().rmsNormEps());
        for (int i = 0; i < d; i++) {
          w[i] =
              switch (s.decode()) {
                case RAW -> w[i];
                case UNIT -> w[i] / norm;
                case NORM -> w[i] / rms * gain[i];
              };
        }
        int[] factors = s.sign().factors();
        for (int sign = 0; sign < factors.length; sign++) {
          checkRow(map, layer, neuron, sign, logits(head, w, factors[sign]));
        }
      }
    }
  }

  private static double[] logits(float[] head, double[] w, int factor) {
    double[] logits = new double[head.length / w.length];
    for (int id = 0; id < logits.length; id++) {
      for (int i = 0; i < w.length; i++) {
        logits[id] += factor * head[id * w.length + i] * w[i];
      }
    }
    return logits;
  }

  private static void checkRow(NeuronMap map, int layer, int neuron, int sign, double[] logits) {
    int[] order =
        IntStream.range(0, logits.length)
            .boxed()
            .sorted(Comparator.comparingDouble(id -> -logits[id]))
            .mapToInt(Integer::intValue)
            .toArray();
    double sum = 0;
    for (double logit : logits) {
      sum += Math.exp(logit);
    }
    double scale = Math.max(1, Math.abs(logits[order[0]]));
    assertEquals(Math.log(sum), map.logZ()[map.row(layer, neuron, sign)], 1e-5 * scale);
    int at = map.at(layer, neuron, sign);
    for (int rank = 0; rank < map.settings().k(); rank++) {
      // Logits that differ by rounding only may change places.
      assertEquals(logits[order[rank]], map.logits()[at + rank], 1e-5 * scale);
      assertEquals(logits[map.tokenIds()[at + rank]], map.logits()[at + rank], 1e-5 * scale);
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void theMapDoesNotDependOnHowManyNeuronsGoAtOnce(Device device) {
    try (Llama model = Llama.load(MODEL, device, DType.F32, LIMITS)) {
      NeuronMap whole = map(model, Projection.UP, Decode.RAW, Sign.PLUS, 3);
      NeuronMap blocks =
          NeuronMap.of(
              source(model), Projection.UP, Decode.RAW, Sign.PLUS, 3, 33, n -> {}); // of 80
      assertArrayEquals(whole.tokenIds(), blocks.tokenIds());
      SameBits.assertSame(whole.logits(), blocks.logits(), 1e-6, "logits");
      SameBits.assertSame(whole.logZ(), blocks.logZ(), 1e-6, "log-sum-exps");
    }
  }

  @Test
  void whatIsWrittenIsRead(@TempDir Path folder) throws Exception {
    Path file = folder.resolve("map.safetensors");
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, device, DType.F32, LIMITS)) {
      NeuronMap map = map(model, Projection.GATE, Decode.NORM, Sign.BOTH, 3);
      map.write(file);
      NeuronMap read = NeuronMap.read(file);
      assertEquals(map.settings(), read.settings());
      assertArrayEquals(map.tokenIds(), read.tokenIds());
      assertArrayEquals(map.logits(), read.logits());
      assertArrayEquals(map.logZ(), read.logZ());
      assertArrayEquals(map.weightNorm(), read.weightNorm());

      read.requireOf(model.config(), model.weights().checkpoint(), file);
      Path other = GOLDENS.resolve("llama2/model");
      try (Checkpoint checkpoint = Checkpoint.open(other)) {
        var error =
            assertThrows(
                BadFileException.class,
                () -> read.requireOf(ModelConfig.read(other), checkpoint, file));
        assertTrue(error.getMessage().contains("another model"), error.getMessage());
      }
    }
    assertThrows(BadFileException.class, () -> NeuronMap.read(MODEL.resolve("model.safetensors")));
    Path cut = folder.resolve("cut.safetensors");
    byte[] bytes = Files.readAllBytes(file);
    Files.write(cut, Arrays.copyOf(bytes, bytes.length - 4));
    assertThrows(BadFileException.class, () -> NeuronMap.read(cut));
  }

  @Test
  void whatCannotBeAMapIsRefusedBeforeAnythingIsBuiltOnIt(@TempDir Path folder) {
    Path file = folder.resolve("map.safetensors");
    for (int[] sizes :
        new int[][] {{100, 1, 3}, {3, 1, 3}, {0, 1, 0}, {-1, 1, 0}, {1 << 30, 1, 0}, {9, 0, 0}}) {
      Map<String, String> metadata =
          new HashMap<>(
              Map.of(
                  "format",
                  "halter neuron map",
                  "version",
                  "2",
                  "fingerprint",
                  "f",
                  "proj",
                  "up",
                  "decode",
                  "raw",
                  "sign",
                  "plus"));
      metadata.put("vocabulary", Integer.toString(sizes[0]));
      int k = sizes[1];
      try (SafetensorsWriter out =
          SafetensorsWriter.create(
              file,
              metadata,
              List.of(
                  new TensorSpec("token_ids", DType.I32, 1, 1, 1, k),
                  new TensorSpec("logits", DType.F32, 1, 1, 1, k),
                  new TensorSpec("log_z", DType.F32, 1, 1, 1),
                  new TensorSpec("weight_norm", DType.F32, 1, 1)))) {
        if (k > 0) {
          out.write("token_ids", new int[] {sizes[2]});
          out.write("logits", new float[1]);
        }
        out.write("log_z", new float[1]);
        out.write("weight_norm", new float[1]);
      }
      if (sizes[0] == 100) {
        assertEquals(3, NeuronMap.read(file).tokenIds()[0]);
      } else {
        var error = assertThrows(BadFileException.class, () -> NeuronMap.read(file));
        assertTrue(error.getMessage().contains(file.toString()), error.getMessage());
      }
    }
  }

  @Test
  void refusesToKeepNoTokensOrTooMany() {
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, device, DType.F32, LIMITS)) {
      assertThrows(
          IllegalArgumentException.class,
          () -> NeuronMap.of(model, Projection.UP, Decode.RAW, Sign.PLUS, 0, n -> {}));
      assertThrows(
          IllegalArgumentException.class,
          () -> NeuronMap.of(model, Projection.UP, Decode.RAW, Sign.PLUS, 65, n -> {}));
    }
  }
}
