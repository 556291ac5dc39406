package dev.halter.evaluation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.generation.LanguageModel;
import dev.halter.patching.Pair;
import dev.halter.scoring.Question;
import dev.halter.text.Tokenizer;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** Sums and their null-operator counterfactuals, as texts and as the demo model's tokens. */
class ArithmeticTest {
  private static final Path DEMO = Path.of("src/main/models/demo");
  private static final List<String> OPERATORS = List.of("+", "-", "*", "/");

  private static LanguageModel open() {
    return LanguageModel.at(DEMO)
        .device("cpu")
        .dtype("f32")
        .threads(2)
        .context(128)
        .maxBatch(64)
        .open();
  }

  @Test
  void thirtySixTemplatesInThreeStylesForEachOperator() {
    List<Arithmetic.Example> examples = Arithmetic.standard().examples(OPERATORS, 6, 6, 1);
    assertEquals(36 * 4, examples.size());
    Set<String> texts = new HashSet<>();
    for (String operator : OPERATORS) {
      List<Arithmetic.Example> own =
          examples.stream().filter(example -> example.operator().equals(operator)).toList();
      for (String style : List.of("equation", "statement", "question")) {
        assertEquals(12, own.stream().filter(e -> e.style().equals(style)).count(), style);
      }
      own.forEach(example -> texts.add(example.reference()));
    }
    assertEquals(examples.size(), texts.size(), "every text differs from every other");
  }

  @Test
  void onlyTheOperatorIsReplacedAndTheAnswerIsRight() {
    Pattern numbers = Pattern.compile("(?<!Exercise )\\b\\d+\\b");
    for (Arithmetic.Example example : Arithmetic.standard().examples(OPERATORS, 0, 9, 3)) {
      int[] operator = example.spans().get(Arithmetic.OPERATOR);
      String before = example.reference().substring(0, operator[0]);
      String after = example.reference().substring(operator[1]);
      assertTrue(example.counterfactual().startsWith(before), example.toString());
      assertTrue(example.counterfactual().endsWith(after), example.toString());
      assertNotEquals(example.reference(), example.counterfactual());

      Matcher found = numbers.matcher(example.reference());
      assertTrue(found.find());
      int a = Integer.parseInt(found.group());
      assertTrue(found.find());
      int b = Integer.parseInt(found.group());
      int result = Integer.parseInt(example.answer());
      assertTrue(
          switch (example.operator()) {
            case "+" -> a + b == result;
            case "-" -> a - b == result && result >= 0;
            case "*" -> a * b == result;
            default -> b * result == a && b > 0;
          },
          example.toString());
      for (String name : List.of(Arithmetic.OPERAND_A, Arithmetic.OPERAND_B)) {
        int[] span = example.spans().get(name);
        String operand = example.reference().substring(span[0], span[1]);
        assertEquals(name.equals(Arithmetic.OPERAND_A) ? a : b, Integer.parseInt(operand));
      }
    }
  }

  @Test
  void theSeedChoosesTheOrder() {
    Arithmetic arithmetic = Arithmetic.standard();
    List<String> first = texts(arithmetic.examples(OPERATORS, 1, 9, 5));
    assertEquals(first, texts(arithmetic.examples(OPERATORS, 1, 9, 5)));
    assertNotEquals(first, texts(arithmetic.examples(OPERATORS, 1, 9, 6)));
    assertEquals(List.of("+", "-", "*", "/"), operators(arithmetic).subList(0, 4));
  }

  private static List<String> operators(Arithmetic arithmetic) {
    return arithmetic.examples(OPERATORS, 1, 9, 5).stream()
        .map(Arithmetic.Example::operator)
        .toList();
  }

  private static List<String> texts(List<Arithmetic.Example> examples) {
    return examples.stream().map(e -> e.reference() + "|" + e.counterfactual()).toList();
  }

  @Test
  void pairsHoldTheSumsTokensAndNameTheirPlaces() {
    Arithmetic arithmetic = Arithmetic.read(DEMO.resolve("tasks/arithmetic.json"));
    List<Arithmetic.Example> examples = arithmetic.examples(List.of("+", "*"), 1, 9, 2);
    try (LanguageModel model = open()) {
      Tokenizer tokenizer = model.tokenizer();
      Arithmetic.Pairs made =
          Arithmetic.pairs(model, examples, new Arithmetic.Wanted(60, false, true));
      assertEquals(60, made.pairs().size());
      assertEquals(made.tried(), 60 + made.severalTokens() + made.otherLength() + made.wrong());
      for (int i = 0; i < 60; i++) {
        Pair pair = made.pairs().get(i);
        Arithmetic.Example example = examples.get(i);
        assertEquals(example.reference(), tokenizer.decode(pair.reference(), true));
        assertEquals(example.counterfactual(), tokenizer.decode(pair.counterfactual(), true));
        assertEquals(example.answer(), tokenizer.piece(pair.answer()).strip());
        assertEquals(pair.reference().length, pair.counterfactual().length);
        example
            .spans()
            .forEach(
                (name, span) ->
                    assertEquals(
                        example.reference().substring(span[0], span[1]),
                        pieces(tokenizer, pair, name).strip()));
      }
    }
  }

  private static String pieces(Tokenizer tokenizer, Pair pair, String span) {
    StringBuilder pieces = new StringBuilder();
    pair.spans().get(span).forEach(at -> pieces.append(tokenizer.piece(pair.reference()[at])));
    return pieces.toString();
  }

  @Test
  void onlyWhatTheModelAnswersRightlyIsKept() {
    try (LanguageModel model = open()) {
      // The demo model has never divided.
      List<Arithmetic.Example> examples =
          Arithmetic.standard().examples(List.of("+", "/"), 2, 9, 4).subList(0, 120);
      Arithmetic.Pairs all =
          Arithmetic.pairs(model, examples, new Arithmetic.Wanted(1000, false, false));
      Arithmetic.Pairs right =
          Arithmetic.pairs(model, examples, new Arithmetic.Wanted(1000, true, false));
      assertEquals(120, all.pairs().size());
      assertEquals(120, right.pairs().size() + right.wrong());
      assertTrue(right.wrong() > 30 && right.pairs().size() > 10, right.toString());
      List<Question> questions = right.pairs().stream().map(p -> p.question("sums")).toList();
      for (boolean good : Question.ask(model.engine(), questions)) {
        assertTrue(good);
      }
      boolean anyWrong = false;
      for (boolean good :
          Question.ask(
              model.engine(), all.pairs().stream().map(p -> p.question("sums")).toList())) {
        anyWrong |= !good;
      }
      assertTrue(anyWrong);
      assertFalse(right.pairs().stream().anyMatch(pair -> pair.label().isEmpty()));
    }
  }
}
