package dev.halter.patching;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.SameBits;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.Head;
import dev.halter.model.Llama;
import dev.halter.patching.PathPatching.Variant;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.ToDoubleFunction;
import java.util.stream.DoubleStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Path patching to the logits against hooked transformers (tools/goldens/patching.py). */
class PathPatchingTest {
  static Stream<Arguments> models() {
    return PatchingGolden.NAMES.stream()
        .flatMap(name -> TestDevices.forModels().map(device -> Arguments.of(name, device)));
  }

  @ParameterizedTest
  @MethodSource("models")
  void everyHeadAndMlpEqualsHooksInTransformers(String name, Device device) {
    PatchingGolden golden = new PatchingGolden(name);
    try (Llama model = golden.load(device, DType.F32)) {
      for (Variant variant : Variant.values()) {
        for (PatchingGolden.Case one : golden.cases) {
          List<Pair> pairs = List.of(one.pair());
          Effects effects = PathPatching.of(model, pairs, variant, false, done -> {});
          assertEffects(golden, one, variant, effects);
        }
      }
    }
  }

  private static void assertEffects(
      PatchingGolden golden, PatchingGolden.Case one, Variant variant, Effects effects) {
    ModelConfig config = golden.config;
    double[] reference = one.reference();
    assertEquals(reference[0], effects.referenceLogit(), 1e-4 * Math.abs(reference[0]));
    assertEquals(reference[0] - reference[1], effects.reference().logitDifference(), 1e-4);
    List<double[]> expected = one.toLogits(variant, config);
    double largest =
        expected.stream().mapToDouble(e -> Math.abs(e[0] - reference[0])).max().orElse(0);
    assertTrue(largest > 0.1, "the patches do nothing");
    for (int i = 0; i < expected.size(); i++) {
      String what = golden.name + " " + variant + " sender " + i;
      double delta = expected.get(i)[0] - reference[0];
      double difference = expected.get(i)[0] - expected.get(i)[1];
      Effects.Effect effect = effects.all().get(i).effect();
      assertEquals(delta, effect.delta(), 1e-3 * largest, what);
      assertEquals(
          delta / reference[0], effect.relative(), 1e-3 * largest / Math.abs(reference[0]), what);
      assertEquals(difference, effect.logitDifference(), 2e-3 * largest, what);
    }
    assertEquals(expected.size(), effects.size());
  }

  @ParameterizedTest
  @MethodSource("models")
  void meansAndProbabilitiesOfAllPairsTogetherEqualTransformers(String name, Device device) {
    PatchingGolden golden = new PatchingGolden(name);
    try (Llama model = golden.load(device, DType.F32)) {
      List<Pair> pairs = golden.cases.stream().map(PatchingGolden.Case::pair).toList();
      Effects effects = PathPatching.of(model, pairs, Variant.RECOMPUTE, true, done -> {});
      double meanReference = mean(golden, one -> one.reference()[0]);
      assertEquals(
          mean(golden, PatchingGolden.Case::referenceProbability),
          effects.reference().probability(),
          1e-4);
      for (int i = 0; i < effects.size(); i++) {
        int sender = i;
        ToDoubleFunction<PatchingGolden.Case> delta =
            one ->
                one.toLogits(Variant.RECOMPUTE, golden.config).get(sender)[0] - one.reference()[0];
        double mean = mean(golden, delta);
        Effects.Effect effect = effects.all().get(i).effect();
        assertEquals(golden.cases.size(), effect.pairs());
        assertEquals(mean, effect.delta(), 1e-3);
        assertEquals(mean / meanReference, effect.relativeOfMeans(), 1e-3);
        assertEquals(
            mean(golden, one -> delta.applyAsDouble(one) / one.reference()[0]),
            effect.relative(),
            1e-3);
        double squares =
            golden.cases.stream()
                .mapToDouble(one -> Math.pow(delta.applyAsDouble(one) - mean, 2))
                .sum();
        int n = golden.cases.size();
        assertEquals(Math.sqrt(squares / (n - 1) / n), effect.standardError(), 1e-3);
      }
      for (int layer = 0; layer < golden.config.nLayers(); layer++) {
        for (int head = 0; head < golden.config.nHeads(); head++) {
          int l = layer;
          int h = head;
          assertEquals(
              mean(golden, one -> one.probability(l, h)),
              effects.of(new Head(layer, head)).probability(),
              1e-4);
        }
      }
    }
  }

  private static double mean(PatchingGolden golden, ToDoubleFunction<PatchingGolden.Case> value) {
    return golden.cases.stream().mapToDouble(value).average().orElseThrow();
  }

  @ParameterizedTest
  @EnumSource(Variant.class)
  void aCounterfactualThatIsTheReferenceHasNoEffectAtAll(Variant variant) {
    for (Device device : TestDevices.forModels().toList()) {
      try (device;
          Llama model = new PatchingGolden("llama3").load(device, DType.F32)) {
        for (Pair pair : new PatchingGolden("llama3").pairs()) {
          Pair same =
              new Pair(
                  pair.reference(), pair.reference(), pair.answer(), pair.foil(), Map.of(), null);
          Effects effects = PathPatching.of(model, List.of(same, same), variant, true, done -> {});
          double allowed = SameBits.allowed(1e-5);
          for (Effects.Sender sender : effects.all()) {
            Effects.Effect effect = sender.effect();
            assertEquals(0.0, effect.delta(), allowed);
            assertEquals(0.0, effect.relative(), allowed);
            assertEquals(effects.reference().probability(), effect.probability(), allowed);
            assertEquals(effects.reference().logitDifference(), effect.logitDifference(), allowed);
          }
        }
      }
    }
  }

  @Test
  void resultsDoNotDependOnHowPairsAndRowsAreCut() {
    PatchingGolden golden = new PatchingGolden("qwen3");
    try (Device device = CpuDevice.open(2);
        Llama model = golden.load(device, DType.F32)) {
      List<Pair> pairs = new ArrayList<>(golden.pairs());
      pairs.addAll(golden.pairs());
      for (Variant variant : Variant.values()) {
        double[] whole =
            deltas(PathPatching.of(model, pairs, variant, true, 100, 1000, done -> {}));
        for (int atOnce : new int[] {1, 2, 4}) {
          for (int rows : new int[] {1, 7, 32}) {
            assertArrayEquals(
                whole,
                deltas(PathPatching.of(model, pairs, variant, true, atOnce, rows, done -> {})));
          }
        }
      }
    }
  }

  private static double[] deltas(Effects effects) {
    return effects.all().stream()
        .map(Effects.Sender::effect)
        .flatMapToDouble(e -> DoubleStream.of(e.delta(), e.probability()))
        .toArray();
  }

  @Test
  void aPromptLongerThanAStepGivesTheSame() {
    PatchingGolden golden = new PatchingGolden("llama3");
    double[] whole;
    try (Device device = CpuDevice.open(2);
        Llama model = golden.load(device, DType.F32)) {
      whole = deltas(PathPatching.of(model, golden.pairs(), Variant.RECOMPUTE, false, done -> {}));
    }
    // Steps of 4 tokens, and a cache for one sequence.
    try (Device device = CpuDevice.open(2);
        Llama model =
            Llama.load(golden.folder, device, DType.F32, new Llama.Limits(4, 1, 1, 1, 64))) {
      double[] cut =
          deltas(PathPatching.of(model, golden.pairs(), Variant.RECOMPUTE, false, done -> {}));
      for (int i = 0; i < whole.length; i += 2) {
        assertEquals(whole[i], cut[i], 1e-5);
      }
    }
  }

  @Test
  void bf16IsCloseToF32() {
    PatchingGolden golden = new PatchingGolden("llama3");
    for (Device device : TestDevices.forModels().toList()) {
      try (device;
          Llama model = golden.load(device, DType.BF16)) {
        for (PatchingGolden.Case one : golden.cases) {
          for (Variant variant : Variant.values()) {
            List<double[]> expected = one.toLogits(variant, golden.config);
            Effects effects =
                PathPatching.of(model, List.of(one.pair()), variant, false, done -> {});
            for (int i = 0; i < expected.size(); i++) {
              assertEquals(
                  expected.get(i)[0] - one.reference()[0],
                  effects.all().get(i).effect().delta(),
                  0.05);
            }
          }
        }
      }
    }
  }
}
