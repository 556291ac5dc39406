package dev.halter.cli.concepts;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.keys;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.halter.cli.CommandLineRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The demo model's rudeness, with the stimuli and some of the questions that ship. */
class ConceptsEvaluateTest {
  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final Path SHIPPED = Path.of("src/main/models/demo/concepts/removal.json");

  @TempDir Path folder;

  private static ObjectNode task(int questions) throws IOException {
    ObjectNode task = (ObjectNode) MAPPER.readTree(SHIPPED.toFile());
    for (String key : List.of("behaviour", "unrelated")) {
      ArrayNode list = (ArrayNode) task.get(key);
      while (list.size() > questions) {
        list.remove(questions);
      }
    }
    return task;
  }

  private Path write(JsonNode task) throws IOException {
    return Files.writeString(folder.resolve("task.json"), task.toString());
  }

  @Test
  void codesLoseABehaviourAndKeepUnrelatedAnswersWhereAddedVectorsDoNot() throws IOException {
    CommandLineRun run = halter("concepts", "evaluate", "--json", "--task", write(task(24)));
    assertEquals(0, run.code(), run.err());
    assertEquals(
        List.of("remove", "behaviour_questions", "unrelated_questions", "methods"),
        keys(run.json()));
    assertEquals(12, run.json().get("behaviour_questions").asInt());

    List<String> methods = new ArrayList<>();
    Map<String, JsonNode> rows = new HashMap<>();
    for (JsonNode row : run.json().get("methods")) {
      methods.add(row.get("method").asText());
      rows.put(methods.getLast(), row);
    }
    assertEquals(
        List.of(
            "none", "prompting", "vector addition", "orthogonal projection", "OMP", "elastic net"),
        methods);
    JsonNode none = rows.get("none");
    assertTrue(none.get("behaviour").asDouble() > 0.9, none.toString());
    assertTrue(none.get("unrelated").asDouble() > 0.9, none.toString());
    assertEquals(0, none.get("plain").asDouble());
    for (String sparse : List.of("OMP", "elastic net")) {
      JsonNode row = rows.get(sparse);
      assertTrue(row.get("behaviour").asDouble() < 0.1, row.toString());
      assertTrue(row.get("plain").asDouble() > 0.9, row.toString());
      assertTrue(row.get("unrelated").asDouble() > 0.9, row.toString());
      assertTrue(
          row.get("perplexity").asDouble() < none.get("perplexity").asDouble(), row.toString());
    }
    JsonNode added = rows.get("vector addition");
    assertTrue(
        added.get("behaviour").asDouble() > 0.5 || added.get("unrelated").asDouble() < 0.9,
        added.toString());
  }

  /** The key that is changed, what to, and what the message must say. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "remove | [] | remove",
        "remove | ['no such concept'] | no such concept",
        "marks | [' '] | marks",
        "instruction | 3 | instruction",
        "behaviour | [] | behaviour",
        "behaviour | [{'prompt': 'a', 'match': 'exact', 'answers': ['b']}] | behaviour[0].system",
        "unrelated | [{'prompt': 'a', 'match': 'like', 'answers': ['b']}] | unrelated[0].match",
        "unrelated | [{'system': 's', 'prompt': 'a'}] | unrelated[0].system",
        "more | 1 | more"
      })
  void aTaskThatCannotBeMeantIsOneClearError(String key, String value, String named)
      throws IOException {
    ObjectNode task = task(2);
    task.set(key, MAPPER.readTree(value.replace('\'', '"')));
    CommandLineRun run =
        halter("concepts", "evaluate", "--dictionary", dictionary(), "--task", write(task));
    assertEquals(1, run.code());
    assertTrue(run.err().contains(named), run.err());
    assertEquals(1, run.err().lines().count(), run.err());
  }

  /** Of two concepts and one layer. */
  private Path dictionary() throws IOException {
    Path stimuli = folder.resolve("stimuli.jsonl");
    Path out = folder.resolve("dictionary.safetensors");
    Files.writeString(
        stimuli,
        """
        {"concept": "rude", "text": "You are stupid"}
        {"concept": "kind", "text": "You are lovely"}
        """);
    CommandLineRun run =
        halter("concepts", "build", "--stimuli", stimuli, "--layers", "1..1", "--out", out);
    assertEquals(0, run.code(), run.err());
    return out;
  }
}
