package dev.halter.heads;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.files.JsonObject;
import dev.halter.generation.Engine;
import dev.halter.heads.AttentionPatterns.Weight;
import dev.halter.model.Head;
import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import dev.halter.patching.Pair;
import dev.halter.pictures.HeatMap;
import dev.halter.weights.Safetensors;
import java.nio.file.Path;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import org.junit.jupiter.api.Test;

/** The last token's weights on spans, from the patterns that transformers has. */
class AttentionPatternsTest {
  private static final Path GOLDEN = Path.of("src/test/resources/goldens/llama3");
  private static final List<Head> HEADS = List.of(new Head(2, 4), new Head(0, 1));
  private static final int LENGTH = 17;

  /** Row {@code query} of a head's golden pattern [n_heads, queries, keys]. */
  private static double[] row(Head head, int query) {
    try (Safetensors expected = Safetensors.open(GOLDEN.resolve("expected.safetensors"))) {
      String name = "length-17/blocks.%d.attn.hook_pattern".formatted(head.layer());
      float[] pattern = expected.tensor(name).toFloats();
      double[] row = new double[LENGTH];
      for (int key = 0; key < LENGTH; key++) {
        row[key] = pattern[(head.head() * LENGTH + query) * LENGTH + key];
      }
      return row;
    }
  }

  private static int[] prompt() {
    for (JsonObject json : JsonObject.read(GOLDEN.resolve("cases.json")).objects("forward")) {
      if (json.text("id").equals("length-17")) {
        return json.integers("tokens").stream().mapToInt(Integer::intValue).toArray();
      }
    }
    throw new AssertionError("no prompt of 17 tokens");
  }

  private static Llama open(Device device) {
    Llama.Limits limits = new Llama.Limits(64, 64, 8, 8 * KvCache.pagesFor(64), 64);
    return Llama.load(GOLDEN.resolve("model"), device, DType.F32, limits);
  }

  @Test
  void weightsAreMeansOfTheLastRowOverSpans() {
    int[] prompt = prompt();
    Pair with = pair(prompt, Map.of("a", List.of(3), "b", List.of(5, 6)));
    Pair without = pair(prompt, Map.of("a", List.of(7)));
    try (Device device = CpuDevice.open(1);
        Llama model = open(device);
        Engine engine = new Engine(model)) {
      assertTrue(model.config().nLayers() > 2);
      Map<String, Weight> weights = new HashMap<>();
      AttentionPatterns.read(engine, List.of(with, without), HEADS, count -> {})
          .forEach(weight -> weights.put(weight.head() + " " + weight.part(), weight));
      for (Head head : HEADS) {
        double[] last = row(head, LENGTH - 1);
        Weight a = weights.get(head + " a");
        assertEquals((last[3] + last[7]) / 2, a.mean(), 1e-5);
        assertEquals(Math.abs(last[3] - last[7]) / Math.sqrt(2), a.deviation(), 1e-5);
        assertEquals(1.0 / LENGTH, a.uniform(), 1e-12);
        assertEquals(2, a.pairs());
        Weight b = weights.get(head + " b");
        assertEquals(last[5] + last[6], b.mean(), 1e-5);
        assertEquals(1, b.pairs(), "only one pair names it");
        assertEquals(last[0], weights.get(head + " first token").mean(), 1e-5);
        double rest = 1 - last[0] - (last[3] + last[5] + last[6] + last[7]) / 2;
        assertEquals(rest, weights.get(head + " rest").mean(), 1e-5);
      }
    }
  }

  @Test
  void picturesHoldWholePatterns() {
    int[] prompt = prompt();
    List<String> pieces = Collections.nCopies(LENGTH, " x");
    try (Device device = CpuDevice.open(1);
        Llama model = open(device);
        Engine engine = new Engine(model)) {
      HeatMap picture = AttentionPatterns.picture(engine, prompt, pieces, HEADS);
      assertEquals(model.config().nHeads(), 6);
      assertEquals(HEADS.size(), picture.panels().size());
      for (int i = 0; i < HEADS.size(); i++) {
        HeatMap.Panel panel = picture.panels().get(i);
        assertEquals("Head " + HEADS.get(i), panel.title());
        assertEquals("␣x", panel.rows().getFirst());
        for (int query = 0; query < LENGTH; query++) {
          double[] expected = row(HEADS.get(i), query);
          for (int key = 0; key < LENGTH; key++) {
            double value = panel.values()[query][key];
            if (key > query) {
              assertTrue(Double.isNaN(value), "a token does not see what follows it");
            } else {
              assertEquals(100 * expected[key], value, 1e-3);
            }
          }
        }
      }
    }
  }

  private static Pair pair(int[] prompt, Map<String, List<Integer>> spans) {
    return new Pair(prompt, prompt, 5, OptionalInt.empty(), spans, null);
  }
}
