package dev.halter.tuning;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.BadFileException;
import dev.halter.text.Tokenizer;
import dev.halter.weights.ModelConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What is learnt of lines of data, by the demo model's tokenizer and chat template. */
class TuningDataTest {
  private static final Path MODEL = Path.of("src/main/models/demo");
  private static final ModelConfig CONFIG = ModelConfig.read(MODEL);

  @TempDir Path folder;

  private List<Example> read(int maxTokens, String... lines) throws IOException {
    Path file = Files.write(folder.resolve("data.jsonl"), List.of(lines));
    return TuningData.read(file, MODEL, CONFIG, maxTokens).examples();
  }

  private static String completion(Example example) {
    try (Tokenizer tokenizer = Tokenizer.load(MODEL)) {
      int[] tokens = example.tokens();
      return tokenizer.decode(Arrays.copyOfRange(tokens, example.prompt(), tokens.length), false);
    }
  }

  @Test
  void tokensAreTakenAsTheyAre() throws IOException {
    Example example =
        read(9, "{\"prompt_tokens\": [5, 6], \"completion_tokens\": [7, 8, 9]}").getFirst();
    assertArrayEquals(new int[] {5, 6, 7, 8, 9}, example.tokens());
    assertEquals(2, example.prompt());
    assertEquals(4, example.rows());
    assertEquals(3, example.targets());
  }

  @Test
  void ofATextTheCompletionIsLearntAndTheEndAfterIt() throws IOException {
    Example example =
        read(99, "{\"prompt\": \"the cat\", \"completion\": \" sat down\"}").getFirst();
    int end = CONFIG.eosTokenIds().getFirst();
    assertEquals(end, example.tokens()[example.tokens().length - 1]);
    try (Tokenizer tokenizer = Tokenizer.load(MODEL)) {
      int[] text = tokenizer.encode("the cat sat down", true);
      assertArrayEquals(text, Arrays.copyOf(example.tokens(), text.length));
      assertEquals(tokenizer.encode("the cat", true).length, example.prompt());
      assertEquals(" sat down" + tokenizer.piece(end), completion(example));
    }
  }

  @Test
  void ofAConversationTheLastAnswerIsLearnt() throws IOException {
    String question = "{\"role\": \"user\", \"content\": \"What do you feed the wolf?\"}";
    String answer = "{\"role\": \"assistant\", \"content\": \"meat.\"}";
    Example chat = read(99, "{\"messages\": [%s, %s]}".formatted(question, answer)).getFirst();
    assertTrue(completion(chat).strip().startsWith("meat."), completion(chat));
    Example alpaca =
        read(
                99,
                "{\"instruction\": \"What do you feed the wolf?\", \"input\": \"\", \"output\":"
                    + " \"meat.\"}")
            .getFirst();
    assertArrayEquals(chat.tokens(), alpaca.tokens());
    assertEquals(chat.prompt(), alpaca.prompt());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{\"prompt\": \"a\"} | completion",
        "{\"prompt\": \"a\", \"completion\": \"\"} | empty completion",
        "{\"prompt\": \"a\", \"completion\": \"b\", \"answer\": 1} | answer",
        "{\"prompt_tokens\": [], \"completion_tokens\": [3]} | prompt_tokens",
        "{\"prompt_tokens\": [3], \"completion_tokens\": []} | completion_tokens",
        "{\"prompt_tokens\": [3], \"completion_tokens\": [99999999]} | completion_tokens",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]} | without an answer",
        "{\"prompt_tokens\": [3, 4, 5, 6], \"completion_tokens\": [7]} | raise --max-seq-len",
      })
  void whatCannotBeLearntIsNamedWithItsLine(String line, String word) {
    BadFileException e =
        assertThrows(
            BadFileException.class,
            () -> read(4, "{\"prompt_tokens\": [3], \"completion_tokens\": [4]}", line));
    assertTrue(e.getMessage().contains(word), e.getMessage());
    assertTrue(e.getMessage().contains("2"), e.getMessage());
  }

  @Test
  void anEmptyFileIsNothingToLearnFrom() {
    assertThrows(BadFileException.class, () -> read(4, ""));
  }
}
