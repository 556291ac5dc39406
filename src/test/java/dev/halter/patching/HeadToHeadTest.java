package dev.halter.patching;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.Llama;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Path patching to queries, keys and values against hooked transformers. */
class HeadToHeadTest {
  static Stream<Arguments> models() {
    return PatchingGolden.NAMES.stream()
        .flatMap(name -> TestDevices.forModels().map(device -> Arguments.of(name, device)));
  }

  @ParameterizedTest
  @MethodSource("models")
  void everySenderThroughReceiversEqualsHooksInTransformers(String name, Device device) {
    PatchingGolden golden = new PatchingGolden(name);
    try (Llama model = golden.load(device, DType.F32)) {
      for (PatchingGolden.Case one : golden.aligned()) {
        for (JsonNode json : one.json().get("receivers")) {
          List<Receiver> receivers = receivers(golden, json);
          Effects effects = HeadToHead.of(model, List.of(one.pair()), receivers, false, done -> {});
          double reference = one.reference()[0];
          assertEquals(reference, effects.referenceLogit(), 1e-4 * Math.abs(reference));
          List<double[]> expected = PatchingGolden.senders(json, golden.config);
          double largest =
              expected.stream()
                  .filter(e -> e != null)
                  .mapToDouble(e -> Math.abs(e[0] - reference))
                  .max()
                  .orElseThrow();
          assertTrue(largest > 1e-3, "the patches do nothing");
          for (int i = 0; i < expected.size(); i++) {
            String what = name + " " + receivers + " sender " + i;
            if (expected.get(i) == null) {
              assertEquals(0, effects.all().get(i).effect().pairs(), what);
            } else {
              double delta = expected.get(i)[0] - reference;
              // f32 logits carry rounding of their own, in transformers as well.
              double rounding = 2e-6 * Math.abs(reference);
              assertEquals(
                  delta, effects.all().get(i).effect().delta(), 1e-3 * largest + rounding, what);
            }
          }
        }
      }
    }
  }

  private static List<Receiver> receivers(PatchingGolden golden, JsonNode json) {
    List<Receiver> receivers = new ArrayList<>();
    json.get("receivers")
        .forEach(name -> receivers.add(Receiver.parse(name.asText(), golden.config)));
    return receivers;
  }

  @Test
  void resultsDoNotDependOnHowPairsAndRowsAreCut() {
    PatchingGolden golden = new PatchingGolden("llama3");
    List<Receiver> receivers =
        List.of(Receiver.parse("2.3.q", golden.config), Receiver.parse("1.2.k", golden.config));
    List<Pair> pairs = golden.aligned().stream().map(PatchingGolden.Case::pair).toList();
    double[] whole;
    try (Device device = CpuDevice.open(2);
        Llama model = golden.load(device, DType.F32)) {
      whole = deltas(HeadToHead.of(model, pairs, receivers, false, 1000, 1000, done -> {}));
      assertArrayEquals(
          whole, deltas(HeadToHead.of(model, pairs, receivers, false, 1, 7, done -> {})));
    }
    // Steps of 5 tokens, and a cache for one sequence.
    try (Device device = CpuDevice.open(2);
        Llama model =
            Llama.load(golden.folder, device, DType.F32, new Llama.Limits(5, 1, 1, 1, 64))) {
      assertArrayEquals(
          whole,
          deltas(HeadToHead.of(model, pairs, receivers, false, 1000, 1000, done -> {})),
          1e-6);
    }
  }

  private static double[] deltas(Effects effects) {
    return effects.all().stream().mapToDouble(sender -> sender.effect().delta()).toArray();
  }

  @Test
  void aCounterfactualThatIsTheReferenceHasNoEffectAtAll() {
    PatchingGolden golden = new PatchingGolden("qwen3");
    for (Device device : TestDevices.forModels().toList()) {
      try (device;
          Llama model = golden.load(device, DType.F32)) {
        Pair pair = golden.pairs().getFirst();
        Pair same =
            new Pair(
                pair.reference(), pair.reference(), pair.answer(), pair.foil(), Map.of(), null);
        Effects effects =
            HeadToHead.of(
                model,
                List.of(same, same),
                List.of(Receiver.parse("1.3.v", golden.config)),
                false,
                done -> {});
        for (int sender = 0; sender <= golden.config.nHeads(); sender++) {
          assertEquals(2, effects.all().get(sender).effect().pairs());
          assertEquals(0.0, effects.all().get(sender).effect().delta());
        }
      }
    }
  }

  @Test
  void receiversAreNamedByLayerHeadAndInput() {
    PatchingGolden golden = new PatchingGolden("llama3"); // 6 heads, 2 KV heads
    assertEquals(5, Receiver.parse("2.5.q", golden.config).place(golden.config));
    assertEquals(1, Receiver.parse("2.5.k", golden.config).place(golden.config));
    assertEquals(0, Receiver.parse("2.2.v", golden.config).place(golden.config));
    assertEquals("2.2.v", Receiver.parse(" 2.2.v", golden.config).toString());
    for (String bad : List.of("2.2", "2.2.z", "q", "3.0.q", "0.6.q", "")) {
      assertThrows(IllegalArgumentException.class, () -> Receiver.parse(bad, golden.config), bad);
    }
  }

  @Test
  void promptsOfDifferentLengthsAndReceiversInTheFirstLayerAreErrors() {
    PatchingGolden golden = new PatchingGolden("llama3");
    try (Device device = CpuDevice.open(1);
        Llama model = golden.load(device, DType.F32)) {
      List<Receiver> late = List.of(Receiver.parse("1.0.q", golden.config));
      List<Receiver> first = List.of(Receiver.parse("0.0.q", golden.config));
      List<Pair> aligned = golden.aligned().stream().map(PatchingGolden.Case::pair).toList();
      String message =
          assertThrows(
                  IllegalArgumentException.class,
                  () -> HeadToHead.of(model, golden.pairs(), late, false, done -> {}))
              .getMessage();
      assertTrue(message.contains("pair 2") && message.contains("5 tokens"), message);
      assertThrows(
          IllegalArgumentException.class,
          () -> HeadToHead.of(model, aligned, first, false, done -> {}));
    }
  }
}
