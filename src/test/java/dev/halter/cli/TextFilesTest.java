package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.golden;
import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.results;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.concepts.Partition;
import dev.halter.concepts.Stimuli;
import dev.halter.sparse.ConceptScores;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Text files as editors, power failures and other systems leave them. */
class TextFilesTest {
  private static final String MARK = "\uFEFF";

  private final Path model = golden("llama3").resolve("model");

  @TempDir Path folder;

  /** Files that begin with a byte order mark mean what they mean without. */
  @Test
  void byteOrderMarksAreSkipped() throws IOException {
    String plan =
        "{\"interventions\":[{\"op\":\"neuron_clamp\",\"site\":\"blocks.0.mlp.hook_post\","
            + "\"neurons\":[1],\"value\":3}]}";
    String line = "{\"id\":1,\"tokens\":[5,6],\"plan\":\"plan.json\"}\n";
    Map<String, JsonNode> plain = batch("", plan, line);
    assertEquals(plain, batch(MARK, plan, line));
    assertFalse(plain.get("1").has("error"), plain.toString());

    Path messages = folder.resolve("messages.json");
    String text = "[{\"role\":\"user\",\"content\":\"Hello\"}]";
    Files.writeString(messages, text);
    JsonNode tokens = halter("tokens", "--messages", messages, "--json").json();
    Files.writeString(messages, MARK + text);
    assertEquals(tokens, halter("tokens", "--messages", messages, "--json").json());
  }

  @Test
  void conceptsAndScoresMayBeginWithAMark() throws IOException {
    for (String names : List.of("a\nb\n", "['a', 'b']", "[\"a\", \"b\"]")) {
      Path file = Files.writeString(folder.resolve("names"), MARK + names);
      assertEquals(
          List.of("a", "b"), Partition.read(file).stream().map(Partition.Concept::name).toList());
    }
    List<ConceptScores.Scored> scores = List.of(new ConceptScores.Scored("a", 0.5));
    Path csv = Files.writeString(folder.resolve("s.csv"), MARK + "concept,score\na,0.5\n");
    assertEquals(scores, ConceptScores.readCsv(csv, "").concepts());
    Path json =
        Files.writeString(
            folder.resolve("s.json"),
            MARK + "{\"task\":\"t\",\"concepts\":[{\"concept\":\"a\",\"score\":0.5}]}");
    assertEquals(scores, ConceptScores.read(json).concepts());
  }

  /** A mark would be a token of the first text, or a letter of a concept's first one. */
  @Test
  void plainTextsMayBeginWithAMark() throws IOException {
    String texts = "The dog and the cat.\nMy dog is red.\n";
    assertEquals(tars("plain", texts), tars("marked", MARK + texts));

    Path stimuli = Files.createDirectories(folder.resolve("stimuli"));
    Files.createDirectory(stimuli.resolve("concept"));
    Files.writeString(stimuli.resolve("concept_index.txt"), MARK + "['dog']");
    Files.writeString(stimuli.resolve("concept/dog.txt"), MARK + "['A dog.']");
    assertEquals(List.of("A dog."), Stimuli.read(stimuli).texts(0));
  }

  /** How far an edited model is from the model on the texts. */
  private JsonNode tars(String name, String texts) throws IOException {
    Path heldOut = Files.writeString(folder.resolve(name + ".txt"), texts);
    Path out = folder.resolve(name);
    JsonNode json =
        halter(
                "edit",
                "tars",
                "--concept",
                "dog",
                "--prompt",
                "My",
                "--edits",
                2,
                "--draws",
                0,
                "--held-out",
                heldOut,
                "--out",
                out,
                "--json")
            .json();
    JsonNode divergence = json.get("kl");
    assertTrue(divergence.size() > 0, json.toString());
    return divergence;
  }

  private Map<String, JsonNode> batch(String mark, String plan, String line) throws IOException {
    Files.writeString(folder.resolve("plan.json"), mark + plan);
    Path in = Files.writeString(folder.resolve("in.jsonl"), mark + line);
    Path out = folder.resolve("out" + mark.length() + ".jsonl");
    CommandLineRun run =
        halter("batch", "--model", model, "--in", in, "--out", out, "--max-tokens", 3);
    assertEquals(0, run.code(), run.err());
    return results(out);
  }

  @ParameterizedTest
  @ValueSource(strings = {"\n", "\n\n", "  ", "\0\0\0\0", "{\"id\":7,\"te", "{\"i\0\0\0"})
  void resumingCutsOffWhatALossOfPowerLeaves(String tail) throws IOException {
    Path in =
        Files.writeString(
            folder.resolve("in.jsonl"), "{\"id\":1,\"tokens\":[5]}\n{\"id\":2,\"tokens\":[6]}\n");
    Path out = folder.resolve("out.jsonl");
    Object[] resume = {
      "batch", "--model", model, "--in", in, "--out", out, "--max-tokens", 2, "--resume"
    };
    assertEquals(0, halter(resume).code());
    String whole = Files.readString(out);
    String first = whole.lines().findFirst().orElseThrow() + "\n";
    Files.write(out, (first + tail).getBytes(StandardCharsets.UTF_8));

    CommandLineRun run = halter(resume);
    assertEquals(0, run.code(), run.err());
    boolean cut = !tail.isBlank();
    assertEquals(cut, run.err().contains("cut off"), run.err());
    assertEquals(
        whole.lines().toList(), Files.readString(out).lines().filter(l -> !l.isBlank()).toList());
  }

  @ParameterizedTest
  @ValueSource(strings = {"{\"interventions\":[NaN]}", "{\"interventions\":", "{\"name\":1e"})
  void brokenPlansAreNamedInOurWords(String plan) throws IOException {
    Path file = Files.writeString(folder.resolve("plan.json"), plan);
    String error = halter("generate", "--prompt", "a", "--plan", file, "--max-tokens", 1).error(1);
    assertTrue(error.contains(file + ": is not valid JSON: "), error);
    assertFalse(error.contains("REDACTED") || error.contains("ALLOW_"), error);
  }
}
