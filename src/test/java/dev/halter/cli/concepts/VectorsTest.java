package dev.halter.cli.concepts;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.keys;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.Demo;
import dev.halter.cli.CommandLineRun;
import dev.halter.weights.ControlVector;
import dev.halter.weights.Safetensors;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** vectors fit and info, from prompts that ship to steered answers. */
class VectorsTest {
  private static final Path PROMPTS = Path.of("src/main/models/demo/vectors");

  @TempDir Path folder;

  private CommandLineRun fit(Object out, Object... more) {
    Object[] arguments = {
      "vectors",
      "fit",
      "--positive",
      PROMPTS.resolve("rude.jsonl"),
      "--negative",
      PROMPTS.resolve("kind.jsonl"),
      "--out",
      out
    };
    return halter(Stream.concat(Arrays.stream(arguments), Arrays.stream(more)).toArray());
  }

  @Test
  void bothFormatsHoldTheSameNumbers() {
    Path gguf = folder.resolve("v.gguf");
    Path safetensors = folder.resolve("v.safetensors");
    JsonNode fit = fit(gguf, "--json").json();
    assertEquals(
        List.of("method", "length", "positive_prompts", "negative_prompts", "layers", "out"),
        keys(fit));
    assertEquals(32, fit.get("positive_prompts").asInt());
    fit(safetensors, "--json").json();

    ControlVector vector = ControlVector.read(gguf);
    assertEquals(Optional.of("llama"), vector.modelHint());
    int layers = Demo.CONFIG.nLayers();
    Set<Integer> upper = IntStream.range(1, layers).boxed().collect(Collectors.toSet());
    assertEquals(upper, vector.layers(), "GGUF has no place for layer 0");
    JsonNode info = halter("vectors", "info", gguf, "--json").json();
    assertEquals(List.of("facts", "vectors"), keys(info));
    assertEquals("mean", info.at("/facts/method").asText());
    try (Safetensors tensors = Safetensors.open(safetensors)) {
      assertEquals(layers, tensors.names().size());
      assertEquals("mean", tensors.metadata().get("method"));
      for (int layer : vector.layers()) {
        float[] direction = vector.directions().get(layer);
        assertArrayEquals(
            direction, tensors.tensor("blocks.%d.hook_resid_post".formatted(layer)).toFloats());
        JsonNode row = fit.get("layers").get(layer - 1);
        assertEquals(
            List.of("layer", "site", "norm", "gap", "activation_norm", "separation"), keys(row));
        assertEquals(layer, row.get("layer").asInt());
        assertEquals(1, row.at("/separation/auc").asDouble());
        double norm = row.get("norm").asDouble();
        assertEquals(norm, row.get("gap").asDouble(), 1e-4 * norm);
        JsonNode named = info.get("vectors").get(layer - 1);
        assertEquals("direction." + layer, named.get("name").asText());
        assertEquals(norm, named.get("norm").asDouble(), 1e-9);
      }
    }
    String text = halter("vectors", "info", safetensors).out();
    assertTrue(text.contains("blocks.0.hook_resid_post"), text);
    assertTrue(text.contains("fingerprint: "), text);
  }

  @Test
  void anotherSiteAndUnitLengthAreWrittenAndTested() {
    Path out = folder.resolve("v.safetensors");
    JsonNode fit =
        fit(
                out,
                "--method",
                "pca",
                "--length",
                "unit",
                "--layers",
                "2",
                "--site",
                "hook_mlp_out",
                "--test-positive",
                PROMPTS.resolve("rude-test.jsonl"),
                "--test-negative",
                PROMPTS.resolve("kind-test.jsonl"),
                "--json")
            .json();
    JsonNode row = fit.get("layers").get(0);
    assertEquals(1, fit.get("layers").size());
    assertEquals("blocks.2.hook_mlp_out", row.get("site").asText());
    assertEquals(1, row.get("norm").asDouble(), 1e-6);
    assertTrue(row.get("gap").asDouble() > 1);
    double explained = row.get("explained_variance").asDouble();
    assertTrue(explained > 0.3 && explained < 1, row.toString());
    assertTrue(row.at("/test_separation/auc").asDouble() > 0.9, row.toString());
    try (Safetensors tensors = Safetensors.open(out)) {
      assertEquals(Set.of("blocks.2.hook_mlp_out"), tensors.names());
    }
  }

  @Test
  void testPromptsThatWereFittedAreTold() {
    CommandLineRun run =
        fit(
            folder.resolve("v.gguf"),
            "--test-positive",
            PROMPTS.resolve("rude.jsonl"),
            "--test-negative",
            PROMPTS.resolve("kind-test.jsonl"));
    assertEquals(0, run.code());
    assertEquals(
        "halter: 32 of 64 test prompts are among those that the vectors are made of",
        run.err().strip());
    assertTrue(run.out().contains("test AUC"), run.out());
  }

  /** Kind answers without; rude ones with, at the comma where the vector was read. */
  @ParameterizedTest
  @CsvSource({"mean, v.gguf, v.gguf", "pca, v.safetensors, v.safetensors#blocks.2.hook_resid_post"})
  void aVectorTurnsKindAnswersToHeldOutQuestionsRude(String method, String file, String vector)
      throws IOException {
    fit(folder.resolve(file), "--method", method, "--json").json();
    int comma = -1;
    JsonNode tokens = halter("tokens", "--prompt", "Rome, you", "--json").json();
    for (int i = 0; i < tokens.get("tokens").size(); i++) {
      comma =
          tokens.get("pieces").get(i).asText().equals(",")
              ? tokens.get("tokens").get(i).asInt()
              : comma;
    }
    Path plan =
        Files.writeString(
            folder.resolve("plan.json"),
            """
            {"name": "rude", "interventions": [{"op": "add", "site": "blocks.2.hook_resid_post",
             "vector": "%s", "when": {"prompt": "none", "generation": "none",
             "generation_tokens": [%d]}}]}
            """
                .formatted(vector, comma));
    List<String> before = answers("before.jsonl");
    List<String> after = answers("after.jsonl", "--plan", plan);
    assertEquals(32, before.size());
    for (int i = 0; i < before.size(); i++) {
      String answer = before.get(i).split(",")[0];
      assertTrue(before.get(i).matches(".*, (my|dear)[a-z ]* friend\\."), before.get(i));
      assertTrue(after.get(i).matches(".*, you[a-z ]* (fool|idiot)\\."), after.get(i));
      assertEquals(answer, after.get(i).split(",")[0], "what is asked is answered as before");
    }
  }

  private List<String> answers(String out, Object... plan) throws IOException {
    Object[] arguments = {
      "batch",
      "--in",
      PROMPTS.resolve("questions.jsonl"),
      "--max-tokens",
      24,
      "--out",
      folder.resolve(out)
    };
    CommandLineRun run =
        halter(Stream.concat(Arrays.stream(arguments), Arrays.stream(plan)).toArray());
    assertEquals(0, run.code(), run.err());
    String[] answers = new String[32];
    for (String line : Files.readAllLines(folder.resolve(out))) {
      JsonNode result = CommandLineRun.parse(line);
      answers[result.get("id").asInt() - 1] = result.get("text").asText();
    }
    return new ArrayList<>(Arrays.asList(answers));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "v.bin; --out; name a file that ends in .gguf or .safetensors",
        "v.gguf --layers 0..2; blocks.0.hook_resid_post; .safetensors takes it",
        "v.gguf --site hook_mlp_out; blocks.1.hook_mlp_out; .safetensors takes it",
        "v.gguf --site hook_z; hook_z; hook_resid_post",
        "v.safetensors --site attn.hook_z; must be of the residual stream; hook_resid_post",
        "v.gguf --layers 1-2; --layers is '1-2'; 5..9",
        "v.gguf --layers 2..99; there is no layer 99; layers 0 to",
        "v.gguf --method median; --method is 'median'; mean, pca",
        "v.gguf --length long; --length is 'long'; gap, unit",
        "v.gguf --test-positive x; --test-negative; --help",
      })
  void whatCannotBeFittedIsOneClearError(String line) {
    String[] parts = line.split("; ");
    String[] words = parts[0].split(" ");
    Path out = folder.resolve(words[0]);
    CommandLineRun run = fit(out, (Object[]) Arrays.copyOfRange(words, 1, words.length));
    assertTrue(run.code() == 1 || run.code() == 2, run.out());
    String error = run.error(run.code());
    assertTrue(error.contains(parts[1]) && error.contains(parts[2]), error);
    assertFalse(Files.exists(out));
  }

  @Test
  void sidesThatCannotBeSetAgainstEachOtherAreAnError() throws IOException {
    Path out = folder.resolve("v.gguf");
    Path rude = PROMPTS.resolve("rude.jsonl");
    String same =
        halter("vectors", "fit", "--positive", rude, "--negative", rude, "--out", out).error(1);
    assertTrue(same.contains("leave the same activations"), same);

    Path few = folder.resolve("few.jsonl");
    Files.write(few, Files.readAllLines(rude).subList(0, 3));
    String unequal = fit(out, "--negative", few, "--method", "pca").err();
    assertTrue(unequal.contains("--negative"), "given twice: " + unequal);
    Object[] pca = {
      "vectors", "fit", "--method", "pca", "--positive", rude, "--negative", few, "--out", out
    };
    assertTrue(halter(pca).error(1).contains("32 positive and 3 negative prompts: pca pairs"));

    Files.writeString(few, "\n");
    pca[3] = "mean";
    assertTrue(halter(pca).error(1).contains("there are no negative prompts"));
    Files.writeString(few, "{\"id\": 1}\n");
    assertTrue(halter(pca).error(1).contains("line 1, id 1: must have exactly one of"));
    assertFalse(Files.exists(out));
  }

  @Test
  void infoRefusesWhatHoldsNoVectors() {
    String error = halter("vectors", "info", "src/main/models/demo/model.safetensors").error(1);
    assertTrue(error.contains("which is no vector"), error);
    assertTrue(
        halter("vectors", "info", folder.resolve("x.gguf")).error(1).contains("no such file"));
  }
}
