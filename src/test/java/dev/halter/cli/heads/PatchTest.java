package dev.halter.cli.heads;

import static dev.halter.cli.CommandLineRun.golden;
import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.keys;
import static dev.halter.cli.CommandLineRun.parse;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.cli.CommandLineRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code halter heads patch} and {@code halter heads grid}: keys, shapes, errors. */
class PatchTest {
  @TempDir Path folder;
  private Path pairs;
  private final Path model = golden("llama3").resolve("model"); // 3 layers of 6 heads, 2 KV heads

  @BeforeEach
  void writePairs() throws IOException {
    pairs = folder.resolve("pairs.jsonl");
    Files.writeString(
        pairs,
        """
        {"reference_tokens": [5, 9, 20, 7], "counterfactual_tokens": [5, 11, 20, 7], "answer_token": 30}
        {"reference_tokens": [5, 9, 21], "counterfactual_tokens": [5, 50, 22], "answer_token": 31}
        """);
  }

  private CommandLineRun patch(Object... more) {
    return run("patch", more);
  }

  private CommandLineRun run(String command, Object... more) {
    Object[] all = new Object[6 + more.length];
    System.arraycopy(
        new Object[] {"heads", command, "--model", model, "--pairs", pairs}, 0, all, 0, 6);
    System.arraycopy(more, 0, all, 6, more.length);
    return halter(all);
  }

  @Test
  void patchPrintsTheEffectsOfHeadsAndMlpsAndWritesTheSame() throws IOException {
    Path out = folder.resolve("effects.json");
    JsonNode effects = patch("--json", "--out", out).json();
    assertEquals(effects, parse(Files.readString(out)));
    assertEquals(
        List.of(
            "variant",
            "pairs",
            "heads",
            "delta_logit",
            "mlps",
            "mlp_delta_logit",
            "reference_logit",
            "relative_of_means",
            "mlp_relative_of_means",
            "standard_error",
            "mlp_standard_error"),
        keys(effects));
    assertEquals("recompute", effects.get("variant").asText());
    assertEquals(2, effects.get("pairs").asInt());
    for (String key : List.of("heads", "delta_logit", "relative_of_means")) {
      assertEquals(3, effects.get(key).size(), key);
      effects.get(key).forEach(layer -> assertEquals(6, layer.size(), key));
    }
    for (String key : List.of("mlps", "mlp_delta_logit")) {
      assertEquals(3, effects.get(key).size(), key);
    }
    JsonNode frozen = patch("--json", "--variant", "frozen").json();
    assertEquals("frozen", frozen.get("variant").asText());
    assertEquals(
        effects.get("reference_logit").asDouble(), frozen.get("reference_logit").asDouble(), 1e-4);
    assertNotEquals(effects.get("heads"), frozen.get("heads"));
  }

  @Test
  void firstOrderEstimatesTheSameNumbersAndIsComparedWithThem() {
    JsonNode exact = patch("--json").json();
    JsonNode estimate = patch("--json", "--first-order").json();
    assertEquals(keys(exact), keys(estimate));
    assertEquals("first-order", estimate.get("variant").asText());
    assertEquals(exact.get("reference_logit"), estimate.get("reference_logit"));
    assertNotEquals(exact.get("delta_logit"), estimate.get("delta_logit"));
    JsonNode compared = patch("--json", "--first-order", "--compare").json();
    assertEquals(estimate.get("delta_logit"), compared.get("delta_logit"));
    JsonNode compare = compared.get("compare");
    assertEquals(List.of("heads", "mlps", "seconds", "exact_seconds"), keys(compare));
    assertTrue(compare.get("heads").asDouble() > 0.8, compare.toString());
    assertTrue(compare.get("seconds").asDouble() > 0);
    String text = patch("--first-order", "--compare").out();
    assertTrue(text.startsWith("2 pairs, first-order; mean logit"), text);
    assertTrue(text.contains("rank correlation with the exact sweep: heads "), text);
  }

  @Test
  void firstOrderRefusesWhatItDoesNotEstimate() {
    for (List<String> more :
        List.of(
            List.of("--variant", "frozen"),
            List.of("--receivers", "1.4.k"),
            List.of("--probability"))) {
      Object[] arguments = Stream.concat(Stream.of("--first-order"), more.stream()).toArray();
      String error = patch(arguments).error(2);
      assertTrue(error.contains("leave " + more.getFirst()), error);
    }
    assertTrue(patch("--compare").error(2).contains("--first-order"));
  }

  @Test
  void probabilitiesAndFoilsAreMeasuredWhereAskedFor() throws IOException {
    Files.writeString(
        pairs,
        """
        {"reference_tokens": [5, 9], "counterfactual_tokens": [5, 11, 4], "answer_token": 30,\
         "foil_token": 31}
        """);
    JsonNode effects = patch("--json", "--probability").json();
    double probability = effects.get("reference_probability").asDouble();
    assertTrue(probability > 0 && probability < 1);
    assertEquals(3, effects.get("mlp_probability").size());
    assertEquals(6, effects.get("logit_difference").get(0).size());
    assertTrue(effects.get("reference_logit_difference").isNumber());
    assertTrue(effects.get("standard_error").get(0).get(0).isNull(), "of one pair there is none");
  }

  @Test
  void receiversSayWhoReadsThemAndLaterSendersAreNull() {
    JsonNode effects = patch("--json", "--receivers", "1.4.k,1.2.q").json();
    assertEquals(
        parse(
            """
            [{"receiver": "1.4.k", "site": "blocks.1.attn.hook_k", "place": 1,
              "read_by": ["1.3", "1.4", "1.5"]},
             {"receiver": "1.2.q", "site": "blocks.1.attn.hook_q", "place": 2,
              "read_by": ["1.2"]}]"""),
        effects.get("receivers"));
    assertNotEquals(0.0, effects.get("delta_logit").get(0).get(0).asDouble());
    assertTrue(effects.get("delta_logit").get(1).get(0).isNull());
    assertTrue(effects.get("mlps").get(2).isNull());
    String text = patch("--receivers", "1.4.k").out();
    assertTrue(text.contains("through 1.4.k: blocks.1.attn.hook_k of [1.3, 1.4, 1.5]"), text);
  }

  @Test
  void theTableNamesTheLargestEffectsFirst() {
    JsonNode effects = patch("--json").json();
    List<String> lines = patch("--top", "3").out().lines().toList();
    assertEquals(5, lines.size());
    double largest = 0;
    for (JsonNode layer : effects.get("delta_logit")) {
      for (JsonNode head : layer) {
        largest = Math.max(largest, Math.abs(head.asDouble()));
      }
    }
    for (JsonNode mlp : effects.get("mlp_delta_logit")) {
      largest = Math.max(largest, Math.abs(mlp.asDouble()));
    }
    String shown = lines.get(2).replaceAll("^(mlp \\S+|\\S+) +", "").split(" +")[0];
    assertEquals(largest, Math.abs(Double.parseDouble(shown)), 1e-4);
  }

  @Test
  void aGridHasALayerAndAColumnForEachPosition() throws IOException {
    Path out = folder.resolve("grid.json");
    JsonNode grid = run("grid", "--json", "--out", out).json();
    assertEquals(grid, parse(Files.readString(out)));
    assertEquals(
        List.of(
            "site",
            "per_head",
            "pairs",
            "positions",
            "tokens",
            "pairs_at",
            "relative",
            "delta_logit",
            "reference_logit"),
        keys(grid));
    assertEquals(parse("[-4, -3, -2, -1]"), grid.get("positions"));
    assertEquals(parse("[1, 2, 2, 2]"), grid.get("pairs_at"));
    assertEquals(3, grid.get("delta_logit").size());
    // Named where all references that reach so far have the same token; the folder has no texts.
    assertEquals(parse("[\"5\", null, null, null]"), grid.get("tokens"));
    // The prompts of both pairs begin alike.
    assertEquals(0.0, grid.get("delta_logit").get(0).get(0).asDouble());
    assertNotEquals(0.0, grid.get("delta_logit").get(0).get(2).asDouble());
    Path byHead = folder.resolve("by-head.json");
    JsonNode heads =
        run("grid", "--json", "--site", "hook_z", "--per-head", "--out", byHead).json();
    assertEquals(6, heads.get("relative").get(2).size());
    assertEquals(4, heads.get("relative").get(2).get(5).size());
    assertEquals(5, run("grid", "--site", "hook_mlp_out").out().lines().count());

    Path picture = folder.resolve("grid.svg");
    assertEquals(0, halter("heads", "picture", out, "--out", picture).code());
    String drawn = Files.readString(picture);
    assertTrue(drawn.contains(">−4 5</text>"), "the token at its column");
    String effect =
        "layer 0, position −2: %+.1f %%"
            .formatted(100 * grid.get("relative").get(0).get(2).asDouble())
            .replace('-', '−');
    assertTrue(drawn.contains(effect), effect);
    assertEquals(0, halter("heads", "picture", byHead, "--out", picture).code());
    drawn = Files.readString(picture);
    assertTrue(drawn.contains(">Layer 2</text>"), "a panel for each layer");
    assertTrue(drawn.contains("head 5, position −1: "), "a row for each head");
  }

  @Test
  void wrongUseIsOneLine() throws IOException {
    patch("--variant", "half").error(2);
    patch("--top", "0").error(2);
    patch("--receivers", "1.2.q", "--variant", "frozen").error(2);
    patch("--receivers", "1.2.q,1.2.q").error(2);
    assertTrue(patch("--receivers", "7.2.q").error(1).contains("7.2"));
    run("grid", "--site", "hook_q").error(2);
    run("grid", "--per-head").error(2);
    Files.writeString(
        pairs,
        "{\"reference_tokens\": [5], \"counterfactual_tokens\": [5, 6], \"answer_token\": 1}\n");
    assertTrue(run("grid").error(1).contains("pair 1"));
    assertTrue(patch("--receivers", "1.2.q").error(1).contains("pair 1"));
    Files.writeString(pairs, "{\"answer_token\": 1}\n");
    assertTrue(patch().error(1).contains("pairs.jsonl, line 1: "));
  }
}
