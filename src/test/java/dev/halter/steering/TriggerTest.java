package dev.halter.steering;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class TriggerTest {
  /** Token ids of a prompt of six; 7 comes twice. */
  private static final int[] PROMPT = {5, 7, 9, 7, 11, 13};

  private static final int VOCABULARY = 100;

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{'prompt': 'all'}                                                  | 0 1 2 3 4 5",
        "{'prompt_tokens': [7]}                                             | 1 3",
        "{'prompt_tokens': [7, 13, 50]}                                     | 1 3 5",
        "{'prompt_positions': [0, 2]}                                       | 0 2",
        "{'prompt_positions': [-1, -6]}                                     | 0 5",
        "{'prompt_positions': [2, 40]}                                      | 2 5",
        "{'prompt_positions': [-7, 1]}                                      | 1",
        "{'prompt_window': [1, 3]}                                          | 1 2",
        "{'prompt_window': [null, 2]}                                       | 0 1",
        "{'prompt_window': [4, null]}                                       | 4 5",
        "{'prompt_window': [-2, null]}                                      | 4 5",
        "{'prompt_window': [1, -1]}                                         | 1 2 3 4",
        "{'prompt_window': [-4, -2]}                                        | 2 3",
        "{'prompt_window': [2, 99]}                                         | 2 3 4 5",
        "{'prompt_tokens': [5], 'prompt_positions': [4], 'prompt_window': [2, 3]} | 0 2 4",
        "{'prompt': 'all', 'exclude_prompt_tokens': [7]}                    | 0 2 4 5",
        "{'prompt': 'all', 'exclude_prompt_positions': [0, -1]}             | 1 2 3 4",
        "{'prompt': 'all', 'exclude_prompt_positions': [40]}                | 0 1 2 3 4 5",
        "{'prompt': 'all', 'exclude_prompt_window': [null, -2]}             | 4 5",
        "{'prompt_window': [0, 4], 'exclude_prompt_tokens': [7], 'exclude_prompt_positions': [0]}"
            + " | 2",
        "{'prompt': 'none', 'prompt_positions': [3]}                        | 3",
        "{'generation': 'all'}                                              | ",
      })
  void selectsOfThePrompt(String when, String expected) {
    Trigger trigger = read(when);
    List<String> selected =
        IntStream.range(0, PROMPT.length)
            .filter(i -> trigger.selectsPrompt(i, PROMPT.length, PROMPT[i]))
            .mapToObj(Integer::toString)
            .toList();
    assertEquals(expected == null ? "" : expected, String.join(" ", selected));
    assertEquals(expected != null, trigger.actsOnPrompt(PROMPT));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{'generation': 'all'}                                              | 0 1 2 3 4 5",
        "{'generation_tokens': [7]}                                         | 1 3",
        "{'generation_positions': [0, 4, 900]}                              | 0 4",
        "{'generation_window': [2, 4]}                                      | 2 3",
        "{'generation_window': [null, 2]}                                   | 0 1",
        "{'generation_window': [4, null]}                                   | 4 5",
        "{'generation': 'all', 'exclude_generation_tokens': [7]}            | 0 2 4 5",
        "{'generation': 'all', 'exclude_generation_window': [1, null]}      | 0",
        "{'generation': 'all', 'exclude_generation_positions': [1, 2]}      | 0 3 4 5",
        "{'prompt': 'all'}                                                  | ",
      })
  void selectsOfTheGeneration(String when, String expected) {
    Trigger trigger = read(when);
    List<String> selected =
        IntStream.range(0, PROMPT.length)
            .filter(i -> trigger.selectsGenerated(i, PROMPT[i]))
            .mapToObj(Integer::toString)
            .toList();
    assertEquals(expected == null ? "" : expected, String.join(" ", selected));
    assertEquals(expected != null, trigger.actsOnGeneration());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{'prompt_tokens': [7]}                                      | true",
        "{'generation': 'all'}                                       | true",
        "{'generation': 'all', 'prompt': 'all', 'exclude_prompt_tokens': [7]} | true",
        "{'generation': 'all', 'generation_positions': [3]}          | true",
        "{'generation_tokens': [7]}                                  | false",
        "{'generation_positions': [3]}                               | false",
        "{'generation_window': [1, null]}                            | false",
        "{'generation': 'all', 'exclude_generation_tokens': [7]}     | false",
      })
  void tellsWhetherGeneratedTokensDiffer(String when, boolean alike) {
    assertEquals(alike, read(when).treatsGenerationAlike());
  }

  @Test
  void positionsBeyondThePromptAreNamed() {
    Trigger trigger = read("{'prompt_positions': [5, 6, -9, 70]}");
    assertEquals(List.of(6, 70), trigger.beyondPrompt(PROMPT.length));
    assertEquals(List.of(), Trigger.ALWAYS.beyondPrompt(PROMPT.length));
  }

  /** Each line: the first trigger, the second, and the prompt's tokens that it leaves to this. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{'prompt': 'all'}            | {'prompt': 'all'}                | ",
        "{'generation': 'all'}        | {'prompt': 'all'}                | 0 1 2 3 4 5",
        "{'prompt_tokens': [7]}       | {'prompt': 'all'}                | 0 2 4 5",
        "{'prompt_positions': [0,-1]} | {'prompt_window': [0, 3]}        | 1 2",
        "{'prompt_window': [1, 3]}    | {'prompt': 'all', 'exclude_prompt_tokens': [13]} | 0 3 4",
      })
  void yieldsWhatAnotherHasFirst(String first, String second, String expected) {
    Trigger left = read(second).yieldingTo(read(first));
    List<String> selected =
        IntStream.range(0, PROMPT.length)
            .filter(i -> left.selectsPrompt(i, PROMPT.length, PROMPT[i]))
            .mapToObj(Integer::toString)
            .toList();
    assertEquals(expected == null ? "" : expected, String.join(" ", selected));
    assertEquals(selected.isEmpty(), left.isNothing());
    assertEquals(
        read(first).mayMeet(read(second)), !left.equals(read(second)), "else it is what it was");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{'prompt_positions': [2]}                                 | {'prompt': 'all'}",
        "{'prompt': 'all', 'exclude_prompt_tokens': [7]}           | {'prompt': 'all'}",
        "{'prompt_window': [0, 2]} | {'prompt': 'all', 'exclude_prompt_window': [4, 6]}",
      })
  void whatCannotBeLeftIsRefused(String first, String second) {
    assertThrows(IllegalArgumentException.class, () -> read(second).yieldingTo(read(first)), first);
  }

  @Test
  void withoutWhenEverythingIsSelected() {
    assertTrue(Trigger.ALWAYS.selectsPrompt(0, 1, 0));
    assertTrue(Trigger.ALWAYS.selectsGenerated(0, 0));
    assertFalse(read("{'prompt': 'all'}").selectsGenerated(0, 0));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{}                                                       | selects nothing",
        "{'prompt': 'none', 'generation': 'none'}                 | selects nothing",
        "{'prompts': 'all'}                                       | prompts",
        "{'prompt': 'some'}                                       | \"all\" or \"none\"",
        "{'prompt': 1}                                            | prompt",
        "{'prompt_tokens': [100]}                                 | 0 to 99",
        "{'prompt_tokens': [-1]}                                  | 0 to 99",
        "{'prompt_tokens': []}                                    | at least one",
        "{'prompt_tokens': 7}                                     | prompt_tokens",
        "{'prompt_positions': [1.5]}                              | prompt_positions",
        "{'prompt_positions': ['1']}                              | prompt_positions",
        "{'generation_positions': [-1]}                           | 0 to",
        "{'generation_window': [-3, null]}                        | without negative ends",
        "{'prompt_window': [3, 3]}                                | not empty",
        "{'prompt_window': [-2, -5]}                              | not empty",
        "{'prompt_window': [1]}                                   | [from, to)",
        "{'prompt_window': [1, 2, 3]}                             | [from, to)",
        "{'prompt_window': ['a', 2]}                              | [from, to)",
        "{'exclude_prompt_tokens': [1]}                           | includes none",
        "{'prompt': 'all', 'exclude_generation_tokens': [1]}      | includes none",
      })
  void refusesNamingTheKeyAndWhatItMayBe(String when, String part) {
    var error = assertThrows(BadFileException.class, () -> read(when));
    assertTrue(error.getMessage().contains(part), error.getMessage());
  }

  private static Trigger read(String when) {
    byte[] json = when.replace('\'', '"').getBytes(StandardCharsets.UTF_8);
    return Trigger.read(JsonObject.parse(Path.of("plan.json"), json), VOCABULARY);
  }
}
