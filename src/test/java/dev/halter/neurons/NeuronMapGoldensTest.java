package dev.halter.neurons;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Scope;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.LlamaWeights;
import dev.halter.neurons.NeuronMap.Decode;
import dev.halter.neurons.NeuronMap.Projection;
import dev.halter.neurons.NeuronMap.Sign;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.Safetensors;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Maps of four families against torch; tools/goldens/neuron_maps.py wrote the expectations. */
class NeuronMapGoldensTest {
  private static final Path RESOURCES = Path.of("src/test/resources");
  private static final List<String> MODELS =
      List.of("llama2", "llama-bias", "mistral", "qwen2", "qwen3");

  static Stream<Device> devices() {
    return TestDevices.forModels();
  }

  @Test
  void everyFamilyProjectionDecodingAndSignEqualsTorch() {
    try (Device device = CpuDevice.open(2)) {
      for (String model : MODELS) {
        for (Sign sign : Sign.values()) {
          everyProjectionAndDecoding(device, model, sign);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void everyDeviceEqualsTorch(Device device) {
    check(device, DType.F32, "qwen2", Projection.UP, Decode.NORM, Sign.BOTH, 1e-5f);
    check(device, DType.F32, "qwen3", Projection.GATE, Decode.UNIT, Sign.BOTH, 1e-5f);
    check(device, DType.F32, "llama2", Projection.UP, Decode.RAW, Sign.MINUS, 1e-5f);
    check(device, DType.F32, "llama-bias", Projection.DOWN, Decode.NORM, Sign.PLUS, 1e-5f);
  }

  private static void everyProjectionAndDecoding(Device device, String model, Sign sign) {
    for (Projection projection : Projection.values()) {
      for (Decode decode : Decode.values()) {
        check(device, DType.F32, model, projection, decode, sign, 1e-5f);
      }
    }
  }

  /** A bf16 model whose products are bf16 too: raw vectors are exact, others rounded once. */
  @ParameterizedTest
  @MethodSource("devices")
  void bf16RoundsNothingButDecodedVectors(Device device) {
    check(device, DType.BF16, "mistral", Projection.UP, Decode.RAW, Sign.BOTH, 1e-5f);
    check(device, DType.BF16, "mistral", Projection.DOWN, Decode.RAW, Sign.PLUS, 1e-5f);
    check(device, DType.BF16, "qwen3", Projection.GATE, Decode.NORM, Sign.PLUS, 1e-2f);
  }

  /**
   * Ids are compared to the letter: their logits lie apart by more than rounding.
   *
   * @param allowed difference of logits and of log-sum-exp, relative to the largest logit; with
   *     more than rounding ids may differ
   */
  private static void check(
      Device device,
      DType activations,
      String model,
      Projection projection,
      Decode decode,
      Sign sign,
      float allowed) {
    Path folder = RESOURCES.resolve("goldens").resolve(model).resolve("model");
    ModelConfig config = ModelConfig.read(folder);
    try (Checkpoint checkpoint = Checkpoint.open(folder);
        Safetensors goldens = Safetensors.open(RESOURCES.resolve("neuron-maps.safetensors"));
        Scope scope = device.scope()) {
      LlamaWeights.Linear head = LlamaWeights.head(scope, checkpoint, config, activations);
      NeuronMap.Source source = new NeuronMap.Source(device, config, checkpoint, head);
      String projected = model + "/" + NeuronMap.name(projection);
      String decoded = projected + "/" + NeuronMap.name(decode);
      int[] ids = goldens.tensor(decoded + "/token_ids").toInts();
      float[] logits = goldens.tensor(decoded + "/logits").toFloats();
      float[] logZ = goldens.tensor(decoded + "/log_z").toFloats();
      float[] norms = goldens.tensor(projected + "/weight_norm").toFloats();
      int[] neurons = goldens.tensor(model + "/neurons").toInts();
      int k = (int) goldens.tensor(decoded + "/logits").size(3);
      int perLayer = neurons.length / config.nLayers();
      NeuronMap map = NeuronMap.of(source, projection, decode, sign, k, done -> {});
      int[] factors = sign.factors();
      for (int i = 0; i < neurons.length; i++) {
        int layer = i / perLayer;
        assertEquals(
            norms[i],
            map.weightNorm()[layer * config.dMlp() + neurons[i]],
            1e-5 * norms[i],
            projected);
        for (int s = 0; s < factors.length; s++) {
          int list = 2 * i + (factors[s] > 0 ? 0 : 1);
          String where =
              "%s, sign %d, neuron %d.%d".formatted(decoded, factors[s], layer, neurons[i]);
          double error = allowed * Math.max(1, logits[list * k]);
          assertEquals(
              logZ[list], map.logZ()[map.row(layer, neurons[i], s)], error, where + ", log_z");
          int at = map.at(layer, neurons[i], s);
          for (int rank = 0; rank < k; rank++) {
            assertEquals(logits[list * k + rank], map.logits()[at + rank], error, where);
            if (allowed < 1e-4) {
              assertEquals(ids[list * k + rank], map.tokenIds()[at + rank], where);
            }
          }
        }
      }
      head.weight().close();
    }
  }
}
