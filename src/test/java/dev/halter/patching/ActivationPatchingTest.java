package dev.halter.patching;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Grids of activation patching against hooked transformers. */
class ActivationPatchingTest {
  /** Every model on the CPU, and one on the slower devices as well. */
  static Stream<Arguments> models() {
    return Stream.concat(
        PatchingGolden.NAMES.stream().map(name -> Arguments.of(name, CpuDevice.open(2))),
        TestDevices.forModels().skip(1).map(device -> Arguments.of("llama-bias", device)));
  }

  @ParameterizedTest
  @MethodSource("models")
  void everyLayerAndPositionEqualsHooksInTransformers(String name, Device device) {
    PatchingGolden golden = new PatchingGolden(name);
    try (Llama model = golden.load(device, DType.F32)) {
      for (PatchingGolden.Case one : golden.aligned()) {
        JsonNode grids = one.json().get("grids");
        assertGrid(golden, one, model, Site.Kind.RESID_PRE, false, grids.get("hook_resid_pre"));
        assertGrid(golden, one, model, Site.Kind.Z, false, grids.get("hook_z"));
        assertGrid(golden, one, model, Site.Kind.Z, true, grids.get("hook_z_heads"));
        assertGrid(golden, one, model, Site.Kind.MLP_OUT, false, grids.get("hook_mlp_out"));
      }
    }
  }

  private static void assertGrid(
      PatchingGolden golden,
      PatchingGolden.Case one,
      Llama model,
      Site.Kind site,
      boolean perHead,
      JsonNode expected) {
    ActivationPatching grid =
        ActivationPatching.of(model, List.of(one.pair()), site, perHead, false, done -> {});
    double reference = one.reference()[0];
    assertEquals(one.pair().reference().length, grid.positions());
    int heads = perHead ? golden.config.nHeads() : 1;
    double largest = largest(expected, reference);
    assertTrue(largest > 0.02, "the patches do nothing");
    for (int layer = 0; layer < golden.config.nLayers(); layer++) {
      for (int head = 0; head < heads; head++) {
        JsonNode row = perHead ? expected.get(layer).get(head) : expected.get(layer);
        for (int token = 0; token < grid.positions(); token++) {
          double delta = row.get(token).get(0).asDouble() - reference;
          Effects.Effect effect = grid.of(layer, head, token);
          assertEquals(1, effect.pairs());
          String what = "%s %s %d.%d at %d".formatted(golden.name, site, layer, head, token);
          assertEquals(delta, effect.delta(), 1e-3 * largest + 5e-6 * Math.abs(reference), what);
        }
      }
    }
  }

  /** Largest distance from the reference among the answers' logits of a grid. */
  private static double largest(JsonNode grid, double reference) {
    if (grid.get(0).isNumber()) {
      return Math.abs(grid.get(0).asDouble() - reference);
    }
    double largest = 0;
    for (JsonNode part : grid) {
      largest = Math.max(largest, largest(part, reference));
    }
    return largest;
  }

  @Test
  void promptsOfSeveralLengthsAreAlignedAtTheirLastToken() {
    PatchingGolden golden = new PatchingGolden("mistral");
    // Steps of 20 tokens, and a cache for two sequences.
    try (Device device = CpuDevice.open(2);
        Llama model =
            Llama.load(golden.folder, device, DType.F32, new Llama.Limits(20, 1, 2, 2, 64))) {
      List<Pair> pairs = golden.aligned().stream().map(PatchingGolden.Case::pair).toList();
      ActivationPatching both =
          ActivationPatching.of(model, pairs, Site.Kind.RESID_PRE, false, false, done -> {});
      assertEquals(9, both.positions());
      int[] lengths = {9, 7};
      for (int layer = 0; layer < golden.config.nLayers(); layer++) {
        for (int column = 0; column < 9; column++) {
          double sum = 0;
          int count = 0;
          for (int i = 0; i < 2; i++) {
            int token = column - 9 + lengths[i];
            if (token >= 0) {
              ActivationPatching one =
                  ActivationPatching.of(
                      model,
                      pairs.subList(i, i + 1),
                      Site.Kind.RESID_PRE,
                      false,
                      false,
                      done -> {});
              sum += one.of(layer, 0, token).delta();
              count++;
            }
          }
          Effects.Effect effect = both.of(layer, 0, column);
          assertEquals(count, effect.pairs());
          assertEquals(sum / count, effect.delta(), 1e-6);
        }
      }
    }
  }

  @Test
  void aCounterfactualThatIsTheReferenceHasNoEffectAtAll() {
    PatchingGolden golden = new PatchingGolden("llama-bias");
    try (Device device = CpuDevice.open(2);
        Llama model = golden.load(device, DType.F32)) {
      Pair pair = golden.pairs().getFirst();
      Pair same =
          new Pair(pair.reference(), pair.reference(), pair.answer(), pair.foil(), Map.of(), null);
      for (Site.Kind site : List.of(Site.Kind.RESID_PRE, Site.Kind.Z, Site.Kind.MLP_OUT)) {
        ActivationPatching grid =
            ActivationPatching.of(model, List.of(same), site, false, false, done -> {});
        for (int layer = 0; layer < golden.config.nLayers(); layer++) {
          for (int column = 0; column < grid.positions(); column++) {
            assertEquals(0.0, grid.of(layer, 0, column).delta());
          }
        }
      }
    }
  }

  @Test
  void othersSitesAndPromptsOfDifferentLengthsAreErrors() {
    PatchingGolden golden = new PatchingGolden("llama3");
    try (Device device = CpuDevice.open(1);
        Llama model = golden.load(device, DType.F32)) {
      List<Pair> aligned = golden.aligned().stream().map(PatchingGolden.Case::pair).toList();
      for (Site.Kind site : List.of(Site.Kind.Q, Site.Kind.POST, Site.Kind.LOGITS)) {
        assertThrows(
            IllegalArgumentException.class,
            () -> ActivationPatching.of(model, aligned, site, false, false, done -> {}));
      }
      assertThrows(
          IllegalArgumentException.class,
          () -> ActivationPatching.of(model, aligned, Site.Kind.MLP_OUT, true, false, done -> {}));
      assertThrows(
          IllegalArgumentException.class,
          () ->
              ActivationPatching.of(model, golden.pairs(), Site.Kind.Z, false, false, done -> {}));
    }
  }
}
