package dev.halter.evaluation;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.generation.LanguageModel;
import dev.halter.patching.Pair;
import dev.halter.scoring.Question;
import dev.halter.text.Tokenizer;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Random;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

/**
 * Sums and their null-operator counterfactuals, after Zhang et al. (arXiv 2409.01659): the same
 * operands in the same text, but the operator's word or symbol replaced by one that asks for
 * nothing. What the model needs the operator for is all that differs.
 *
 * <p>A file of templates is JSON: {@code "operators"} (for +, -, * and /, the operator's forms by
 * name, such as {@code "word": "plus"}), {@code "null"} (for each form, what replaces it), and
 * {@code "templates"} (texts by style, with {a}, {b} and the name of one form in braces).
 */
public final class Arithmetic {
  /** Where the digits, and the operator, of an example stand: names of the pairs' spans. */
  public static final String OPERAND_A = "operand_a";

  public static final String OPERAND_B = "operand_b";
  public static final String OPERATOR = "operator";

  private static final Pattern FIELD = Pattern.compile("\\{(\\w+)}");
  private static final int MOST_EXAMPLES = 4_000_000;

  /** Examples that the model is asked at once. */
  private static final int ASKED = 256;

  private final Path file;
  private final Map<String, Map<String, String>> forms = new LinkedHashMap<>();
  private final Map<String, List<String>> nulls = new LinkedHashMap<>();
  private final List<Template> templates = new ArrayList<>();

  /** A text and the form of the operator in it. */
  private record Template(String style, String text, String form) {}

  /**
   * One sum.
   *
   * @param style equation, statement or question
   * @param spans the parts of {@code reference} by name, {from, to} in chars
   */
  public record Example(
      String operator,
      String style,
      String reference,
      String counterfactual,
      String answer,
      Map<String, int[]> spans) {}

  private Arithmetic(JsonObject json) {
    this.file = json.file();
    json.only("operators", "null", "templates");
    JsonObject operators = json.object("operators");
    operators.only("+", "-", "*", "/");
    for (String operator : operators.keys()) {
      JsonObject named = operators.object(operator);
      Map<String, String> texts = new LinkedHashMap<>();
      named.keys().forEach(form -> texts.put(form, named.text(form)));
      forms.put(operator, texts);
    }
    JsonObject replacements = json.object("null");
    for (String form : replacements.keys()) {
      List<String> words = replacements.texts(form);
      if (words.isEmpty()) {
        throw replacements.wrong(form, "a list of at least one word");
      }
      nulls.put(form, words);
    }
    JsonObject styles = json.object("templates");
    for (String style : styles.keys()) {
      for (String text : styles.texts(style)) {
        templates.add(template(style, text));
      }
    }
    if (forms.isEmpty() || templates.isEmpty()) {
      throw new BadFileException(file, "has no operator or no template");
    }
  }

  private Template template(String style, String text) {
    List<String> fields = FIELD.matcher(text).results().map(found -> found.group(1)).toList();
    List<String> operator =
        fields.stream().filter(field -> !field.equals("a") && !field.equals("b")).toList();
    if (fields.size() != 3
        || operator.size() != 1
        || !fields.contains("a")
        || !fields.contains("b")) {
      throw new BadFileException(
          file, "template \"" + text + "\" must have {a}, {b} and one form of the operator");
    }
    String form = operator.getFirst();
    if (!nulls.containsKey(form) || forms.values().stream().anyMatch(f -> !f.containsKey(form))) {
      throw new BadFileException(
          file,
          "template \"%s\" asks for {%s}, but not every operator and \"null\" has a \"%s\""
              .formatted(text, form, form));
    }
    return new Template(style, text, form);
  }

  /**
   * Reads a file of templates.
   *
   * @throws BadFileException naming what is wrong in it
   */
  public static Arithmetic read(Path file) {
    return new Arithmetic(JsonObject.read(file));
  }

  /** The 36 templates that ship: 12 equations, 12 statements and 12 questions. */
  public static Arithmetic standard() {
    try (InputStream file = Arithmetic.class.getResourceAsStream("arithmetic.json")) {
      return new Arithmetic(JsonObject.parse(Path.of("arithmetic.json"), file.readAllBytes()));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** The templates of a model's folder, {@code tasks/arithmetic.json}, or else those that ship. */
  public static Arithmetic ofModel(Path folder) {
    Path own = folder.resolve("tasks/arithmetic.json");
    return Files.exists(own) ? read(own) : standard();
  }

  public Set<String> operators() {
    return forms.keySet();
  }

  public int templates() {
    return templates.size();
  }

  /**
   * Every example of some operators with operands from {@code from} to {@code to}: each operator's
   * in a random order, the operators in turn. Differences are not negative and quotients are whole.
   *
   * @throws IllegalArgumentException if there is no such operator, or the examples are too many
   */
  public List<Example> examples(List<String> operators, int from, int to, long seed) {
    long count = (long) (to - from + 1) * (to - from + 1) * templates.size() * operators.size();
    if (from < 0 || to < from || count > MOST_EXAMPLES) {
      throw new IllegalArgumentException(
          "operands %d to %d make %,d examples, must be 1 to %,d"
              .formatted(from, to, Math.max(0, count), MOST_EXAMPLES));
    }
    Random random = new Random(seed);
    List<List<Example>> each = new ArrayList<>();
    for (String operator : operators) {
      if (!forms.containsKey(operator)) {
        throw new IllegalArgumentException(
            "no operator '%s' in %s; it has %s"
                .formatted(operator, file, String.join(", ", forms.keySet())));
      }
      List<Example> own = new ArrayList<>();
      for (Template template : templates) {
        for (int a = from; a <= to; a++) {
          for (int b = from; b <= to; b++) {
            OptionalInt result = apply(operator, a, b);
            if (result.isPresent()) {
              own.add(example(operator, template, a, b, result.getAsInt(), random));
            }
          }
        }
      }
      Collections.shuffle(own, random);
      each.add(own);
    }
    List<Example> inTurn = new ArrayList<>();
    int longest = each.stream().mapToInt(List::size).max().orElse(0);
    for (int i = 0; i < longest; i++) {
      for (List<Example> own : each) {
        if (i < own.size()) {
          inTurn.add(own.get(i));
        }
      }
    }
    return inTurn;
  }

  private static OptionalInt apply(String operator, int a, int b) {
    return switch (operator) {
      case "+" -> OptionalInt.of(a + b);
      case "-" -> a < b ? OptionalInt.empty() : OptionalInt.of(a - b);
      case "*" -> OptionalInt.of(a * b);
      default -> b == 0 || a % b != 0 ? OptionalInt.empty() : OptionalInt.of(a / b);
    };
  }

  private Example example(
      String operator, Template template, int a, int b, int result, Random random) {
    List<String> words = nulls.get(template.form);
    Map<String, String> fields = new LinkedHashMap<>();
    fields.put("a", Integer.toString(a));
    fields.put("b", Integer.toString(b));
    fields.put(template.form, words.get(random.nextInt(words.size())));
    String counterfactual = fill(template.text, fields, new LinkedHashMap<>());
    fields.put(template.form, forms.get(operator).get(template.form));
    Map<String, int[]> places = new LinkedHashMap<>();
    String reference = fill(template.text, fields, places);
    Map<String, int[]> spans = new LinkedHashMap<>();
    spans.put(OPERAND_A, places.get("a"));
    spans.put(OPERAND_B, places.get("b"));
    spans.put(OPERATOR, places.get(template.form));
    return new Example(
        operator, template.style, reference, counterfactual, Integer.toString(result), spans);
  }

  /** Puts the fields in their places and tells where in the result each stands. */
  private static String fill(String text, Map<String, String> fields, Map<String, int[]> places) {
    StringBuilder filled = new StringBuilder();
    Matcher field = FIELD.matcher(text);
    while (field.find()) {
      field.appendReplacement(filled, "");
      int from = filled.length();
      filled.append(fields.get(field.group(1)));
      places.put(field.group(1), new int[] {from, filled.length()});
    }
    return field.appendTail(filled).toString();
  }

  /**
   * Which examples become pairs.
   *
   * @param most stop after so many
   * @param correctOnly leave out what the model does not answer rightly
   * @param sameLength leave out pairs whose prompts have another number of tokens
   */
  public record Wanted(int most, boolean correctOnly, boolean sameLength) {}

  /**
   * Pairs made from examples, and how many of those tried were left out: because the answer is no
   * single token, because the prompts have another number of tokens, because the model's answer is
   * another one.
   */
  public record Pairs(List<Pair> pairs, int tried, int severalTokens, int otherLength, int wrong) {}

  /** Makes pairs of examples, in their order, until there are as many as are wanted. */
  public static Pairs pairs(LanguageModel model, List<Example> examples, Wanted wanted) {
    List<Pair> pairs = new ArrayList<>();
    int tried = 0;
    int severalTokens = 0;
    int otherLength = 0;
    int wrong = 0;
    while (tried < examples.size() && pairs.size() < wanted.most) {
      List<Pair> some = new ArrayList<>();
      while (tried < examples.size() && some.size() < Math.min(ASKED, wanted.most - pairs.size())) {
        Optional<Pair> pair = pair(examples.get(tried++), model.tokenizer());
        if (pair.isEmpty()) {
          severalTokens++;
        } else if (wanted.sameLength
            && pair.get().reference().length != pair.get().counterfactual().length) {
          otherLength++;
        } else {
          some.add(pair.get());
        }
      }
      if (wanted.correctOnly) {
        List<Question> questions = some.stream().map(pair -> pair.question("pairs")).toList();
        boolean[] right = Question.ask(model.engine(), questions);
        for (int i = right.length - 1; i >= 0; i--) {
          if (!right[i]) {
            some.remove(i);
            wrong++;
          }
        }
      }
      pairs.addAll(some);
    }
    return new Pairs(pairs, tried, severalTokens, otherLength, wrong);
  }

  /**
   * The pair of an example, or nothing if its answer is no single token. Some tokenizers put a
   * token for the space before a number: it then ends the prompt, so that the number is what
   * follows.
   */
  private static Optional<Pair> pair(Example example, Tokenizer tokenizer) {
    int[] reference = tokenizer.encode(example.reference + " " + example.answer, true);
    int[] counterfactual = tokenizer.encode(example.counterfactual + " " + example.answer, true);
    int answer = reference[reference.length - 1];
    if (!tokenizer.piece(answer).strip().equals(example.answer)
        || counterfactual[counterfactual.length - 1] != answer) {
      return Optional.empty();
    }
    int[][] parts = tokenizer.spans(example.reference + " " + example.answer, true);
    Map<String, List<Integer>> spans = new LinkedHashMap<>();
    example.spans.forEach((name, span) -> spans.put(name, positions(parts, span)));
    return Optional.of(
        new Pair(
            Arrays.copyOf(reference, reference.length - 1),
            Arrays.copyOf(counterfactual, counterfactual.length - 1),
            answer,
            OptionalInt.empty(),
            spans,
            example.operator + " " + example.style));
  }

  /** Tokens that hold a part of a span of chars. */
  private static List<Integer> positions(int[][] parts, int[] span) {
    return IntStream.range(0, parts.length)
        .filter(i -> parts[i][0] < span[1] && parts[i][1] > span[0])
        .boxed()
        .toList();
  }
}
