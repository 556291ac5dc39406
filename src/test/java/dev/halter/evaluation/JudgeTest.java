package dev.halter.evaluation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.evaluation.Judge.Asked;
import dev.halter.evaluation.Judge.Ratings;
import dev.halter.files.BadFileException;
import dev.halter.text.Chat;
import dev.halter.text.Message;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Ratings read off what a judge says, and what is kept of it. */
class JudgeTest {
  private static final Asked ASKED = new Asked("dogs", "What do you like?", "A dog.", true);

  @TempDir Path folder;

  private final List<String> questions = new ArrayList<>();

  /** Says what {@code answers} makes of a question; null is a refusal. */
  private Chat chat(UnaryOperator<String> answers) {
    return new Chat() {
      @Override
      public String name() {
        return "judge";
      }

      @Override
      public void ask(List<List<Message>> conversations, Consumer<Answer> heard) {
        for (int i = conversations.size() - 1; i >= 0; i--) { // in any order
          String question = conversations.get(i).getFirst().content();
          questions.add(question);
          String answer = answers.apply(question);
          heard.accept(new Answer(i, answer, answer == null ? "refused" : null));
        }
      }

      @Override
      public void close() {}
    };
  }

  private static String rate(String question, int concept, int instruction, int fluency) {
    int rating =
        question.contains("[Concept]")
            ? concept
            : question.contains("[Instruction]") ? instruction : fluency;
    return "Because so.\nRating: [[%d]]".formatted(rating);
  }

  private List<Ratings> rate(UnaryOperator<String> answers, Asked... asked) {
    try (Judge judge = new Judge(chat(answers), folder.resolve("judge.jsonl"))) {
      return judge.rate(List.of(asked));
    }
  }

  @Test
  void threeRatingsAndTheirHarmonicMean() {
    Ratings ratings = rate(question -> rate(question, 1, 2, 2), ASKED).getFirst();
    assertEquals(new Ratings(1, 2, 2), ratings);
    assertEquals(1.5, ratings.together(), 1e-12);
    assertEquals(3, questions.size());
    assertTrue(questions.stream().allMatch(question -> question.contains("A dog.")));
    assertEquals(0, new Ratings(0, 2, 2).together(), "one that is 0 makes all 0");
    assertEquals(2, new Ratings(2, 2, 2).together());
  }

  @Test
  void ofWhatIsNotWantedLessIsBetter() {
    Asked less = new Asked("dogs", "What do you like?", "A dog.", false);
    assertEquals(new Ratings(0, 2, 1), rate(q -> rate(q, 2, 2, 1), less).getFirst());
  }

  @Test
  void anAnswerWithoutARatingIsNotCounted() {
    Ratings ratings =
        rate(q -> q.contains("[Concept]") ? "I like it." : rate(q, 2, 2, 2), ASKED).getFirst();
    assertTrue(Double.isNaN(ratings.concept()));
    assertTrue(Double.isNaN(ratings.together()));
    assertEquals(2, ratings.fluency());
  }

  @Test
  void ratingsAreReadAsJudgesWriteThem() {
    assertEquals(2, Judge.parse("Rating: [[2]]"));
    assertEquals(1, Judge.parse("Rating: [[0]] at first, but no. **Rating: [[1]]**"));
    assertEquals(1, Judge.parse("\"Rating: 1\"."));
    assertEquals(0.5, Judge.parse("Rating: [[0.5]]"));
    for (String other : List.of("", "2", "Rating: two", "Rating: [[7]]", "Rating: [[score]]")) {
      assertTrue(Double.isNaN(Judge.parse(other)), other);
    }
  }

  @Test
  void whatWasAnsweredIsNotAskedAgain() throws IOException {
    UnaryOperator<String> fluent = q -> q.contains("[Concept]") ? null : rate(q, 0, 1, 2);
    Ratings first = rate(fluent, ASKED, ASKED).getFirst();
    assertTrue(Double.isNaN(first.concept()), "refused");
    assertEquals(3, questions.size(), "equal answers are asked about once");
    questions.clear();
    assertEquals(new Ratings(2, 1, 2), rate(q -> rate(q, 2, 0, 0), ASKED).getFirst());
    assertEquals(1, questions.size(), "only what was refused");
    assertEquals(3, Files.readAllLines(folder.resolve("judge.jsonl")).size());
    questions.clear();
    rate(q -> rate(q, 0, 0, 0), new Asked("dogs", "What do you like?", "A cat.", true));
    assertEquals(3, questions.size(), "another answer is another question");
  }

  @Test
  void whatBecameOfItsQuestionsIsCounted() {
    try (Judge judge =
        new Judge(
            chat(
                q ->
                    q.contains("[Concept]")
                        ? null
                        : q.contains("[Instruction]") ? "I like it." : rate(q, 0, 0, 2)),
            folder.resolve("judge.jsonl"))) {
      assertEquals(new Judge.Outcome(0, 0, null, 0, null), judge.outcome());
      judge.rate(List.of(ASKED, ASKED));
      assertEquals(new Judge.Outcome(3, 1, "refused", 1, "I like it."), judge.outcome());
      judge.rate(List.of(ASKED, new Asked("dogs", "What else?", "A dog.", true)));
      assertEquals(new Judge.Outcome(4, 1, "refused", 2, "I like it."), judge.outcome());
    }
    try (Judge judge = new Judge(chat(q -> rate(q, 1, 1, 1)), folder.resolve("judge.jsonl"))) {
      judge.rate(List.of(ASKED));
      assertEquals(new Judge.Outcome(3, 0, null, 1, "I like it."), judge.outcome());
    }
  }

  @Test
  void anotherFileIsNotTakenForAnswers() throws IOException {
    Path file = folder.resolve("judge.jsonl");
    Files.writeString(file, "{\"id\": 1}\n");
    BadFileException error =
        assertThrows(BadFileException.class, () -> new Judge(chat(q -> q), file));
    assertTrue(error.getMessage().contains("line 1"), error.getMessage());
    assertEquals("{\"id\": 1}\n", Files.readString(file));
  }
}
