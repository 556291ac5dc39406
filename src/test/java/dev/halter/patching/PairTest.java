package dev.halter.patching;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.BadFileException;
import dev.halter.generation.LanguageModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Pairs of prompts from JSON lines, with the tokenizer of the model that ships. */
class PairTest {
  private static LanguageModel model;

  @TempDir Path folder;

  @BeforeAll
  static void open() {
    model =
        LanguageModel.at(Path.of("src/main/models/demo"))
            .device("cpu")
            .dtype("auto")
            .threads(1)
            .context(64)
            .maxBatch(1)
            .open();
  }

  @AfterAll
  static void close() {
    model.close();
  }

  private List<Pair> read(String... lines) throws IOException {
    Path file = folder.resolve("pairs.jsonl");
    Files.write(file, List.of(lines));
    return Pair.read(file, model);
  }

  @Test
  void tokensAreTakenAsTheyAre() throws IOException {
    Pair pair =
        read(
                "",
                """
                {"reference_tokens": [5, 6, 7], "counterfactual_tokens": [5, 9], "answer_token": 11,\
                 "foil_token": 12, "spans": {"operand": [1, 2]}, "label": "sum"}""")
            .getFirst();
    assertArrayEquals(new int[] {5, 6, 7}, pair.reference());
    assertArrayEquals(new int[] {5, 9}, pair.counterfactual());
    assertEquals(11, pair.answer());
    assertEquals(OptionalInt.of(12), pair.foil());
    assertEquals(Map.of("operand", List.of(1, 2)), pair.spans());
    assertEquals("sum", pair.label());
  }

  @Test
  void anAnswerInTextIsTheTokenThatFollowsTheReference() throws IOException {
    Pair pair =
        read("""
                {"reference": "My favourite animal is the", "counterfactual": "My thing is the",\
                 "answer": " dog", "foil": "cat"}""")
            .getFirst();
    assertArrayEquals(model.encode("My favourite animal is the"), pair.reference());
    int[] withAnswer = model.encode("My favourite animal is the dog");
    assertEquals(pair.reference().length + 1, withAnswer.length);
    assertEquals(withAnswer[withAnswer.length - 1], pair.answer());
    int[] withFoil = model.encode("My favourite animal is the cat");
    assertEquals(withFoil[withFoil.length - 1], pair.foil().orElseThrow());
  }

  @ParameterizedTest
  @CsvSource({
    "1 2 3, 1 2 4, 2",
    "1 2 3, 1 9 3, 1",
    "1 2 3, 1 2 3, 2",
    "1 2 3, 1 2, 1",
    "1 2, 1 2 3, 1",
    "7, 8 9, 0"
  })
  void theSharedPrefixLeavesBothALastToken(String reference, String counterfactual, int shared) {
    assertEquals(shared, pair(reference, counterfactual).sharedPrefix());
  }

  private static Pair pair(String reference, String counterfactual) {
    return new Pair(ints(reference), ints(counterfactual), 0, OptionalInt.empty(), Map.of(), null);
  }

  private static int[] ints(String text) {
    return List.of(text.split(" ")).stream().mapToInt(Integer::parseInt).toArray();
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{\"reference_tokens\":[1],\"counterfactual_tokens\":[2]} | \"answer\"",
        "{\"reference_tokens\":[1],\"counterfactual_tokens\":[],\"answer_token\":3} | 0 tokens",
        "{\"reference_tokens\":[1],\"counterfactual_tokens\":[2340],\"answer_token\":3} | 2340",
        "{\"reference_tokens\":[1],\"counterfactual_tokens\":[2],\"answer_token\":2340} | 2339",
        "{\"reference_tokens\":[1],\"counterfactual_tokens\":[2],\"answer_token\":3,\"x\":1} | \"x\"",
        "{\"reference_tokens\":[1],\"counterfactual_tokens\":[2],\"answer\":\"a dog\"} | a dog",
        "{\"reference_tokens\":[1],\"counterfactual_tokens\":[2],\"answer_token\":3,"
            + "\"spans\":{\"a\":[1]}} | spans.a",
        "{\"reference_tokens\":[1],\"reference\":\"a\",\"counterfactual_tokens\":[2],"
            + "\"answer_token\":3} | exactly one",
        "[] | not a JSON object"
      })
  void aLineThatIsNoPairIsAnErrorThatNamesLineAndKey(String line, String names) {
    String good = "{\"reference_tokens\":[1],\"counterfactual_tokens\":[2],\"answer_token\":3}";
    BadFileException error = assertThrows(BadFileException.class, () -> read(good, line));
    assertTrue(error.getMessage().contains("pairs.jsonl, line 2: "), error.getMessage());
    assertTrue(error.getMessage().contains(names), error.getMessage());
  }

  /** "7" and " 7" are different tokens, and the model says the second. */
  @Test
  void anAnswerIsMeantAsTheModelWouldSayIt() {
    int[] both = model.encode("3 plus 4 is 7");
    int spaced = both[both.length - 1];
    assertEquals(spaced, Pair.of(model, "3 plus 4 is", "3 or 4 is", "7").answer());
    assertEquals(spaced, Pair.of(model, "3 plus 4 is", "3 or 4 is", " 7").answer());
    int[] bare = model.encode("3 plus 4 is\n7");
    assertNotEquals(spaced, bare[bare.length - 1]);
    assertEquals(
        bare[bare.length - 1], Pair.of(model, "3 plus 4 is\n", "3 or 4 is\n", "7").answer());
  }

  @Test
  void aPromptThatDoesNotFitIsAnError() {
    String line =
        "{\"reference_tokens\":%s,\"counterfactual_tokens\":[2],\"answer_token\":3}"
            .formatted(java.util.Collections.nCopies(65, 1));
    assertThrows(BadFileException.class, () -> read(line));
  }

  @Test
  void aFileWithoutPairsIsAnError() {
    assertThrows(BadFileException.class, () -> read(""));
    assertThrows(BadFileException.class, () -> Pair.read(folder.resolve("none.jsonl"), model));
  }
}
