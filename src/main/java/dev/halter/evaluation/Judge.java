package dev.halter.evaluation;

import dev.halter.files.BadFileException;
import dev.halter.files.GrowingFile;
import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.text.Chat;
import dev.halter.text.Message;
import dev.halter.weights.Fingerprint;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A language model that rates answers, as AxBench (arXiv 2501.17148) has it: three questions about
 * each answer, how much of a concept it has, how much it is about the instruction, and how fluent
 * it is, each rated 0, 1 or 2; together their harmonic mean, which is 0 if one of them is. Where
 * less of the concept is wanted its rating counts as 2 less that, as in AxBench's suppression.
 *
 * <p>The prompts are in our words, of version {@link #VERSION}. AxBench takes an answer that holds
 * no rating for 0; here it is not counted, and how many there are is told. Answers are kept in a
 * file by the hash of who was asked what: what stands there is not asked again.
 */
public final class Judge implements AutoCloseable {
  /** Of the prompts; a change of them is another version. */
  public static final String VERSION = "1";

  private static final int MOST_BYTES = 1 << 30;
  private static final Pattern RATING = Pattern.compile("Rating:\\W*(\\d+(?:\\.\\d+)?)");

  private static final String SCALE =
      """
      First say in one or two sentences why. Then end with a line of exactly this form, with 0, 1 \
      or 2 in the brackets: "Rating: [[0]]".
      """;

  private static final String CONCEPT =
      """
      You are an impartial judge. How much of the concept below does the text have? Judge the \
      concept alone: neither grammar nor sense counts.
      0: none of it. 1: some of it, but little or forced. 2: clearly there.
      """
          + SCALE
          + """

          [Concept]
          %s
          [Text]
          %s
          """;

  private static final String INSTRUCTION =
      """
      You are an impartial judge. How much is the text below about the instruction? Judge its \
      subject alone: neither grammar, nor sense, nor how much it tells counts.
      0: not about it. 1: somewhat, or only indirectly. 2: clearly about it.
      """
          + SCALE
          + """

          [Instruction]
          %s
          [Text]
          %s
          """;

  private static final String FLUENCY =
      """
      You are an impartial judge. How fluent is the text below? Judge the language alone: neither \
      what it says nor whether it is complete counts. Look for wording that is not natural, broken \
      grammar and repetition.
      0: not fluent, such as one that cannot be understood or repeats itself. 1: somewhat, with \
      clear faults. 2: fluent.
      """
          + SCALE
          + """

          [Text]
          %s
          """;

  /**
   * An answer to be rated.
   *
   * @param more whether more of the concept is wanted, or less
   */
  record Asked(String concept, String instruction, String answer, boolean more) {}

  /**
   * What a judge gave an answer: each 0 to 2, NaN where no rating could be read.
   *
   * @param concept how much of what is wanted: of an unwanted concept 2 less its rating
   */
  record Ratings(double concept, double instruction, double fluency) {
    /** The harmonic mean; NaN if one of them is not known. */
    double together() {
      double product = concept * instruction * fluency;
      if (Double.isNaN(product)) {
        return Double.NaN;
      }
      return product == 0 ? 0 : 3 / (1 / concept + 1 / instruction + 1 / fluency);
    }
  }

  /**
   * What became of the questions so far, each counted once.
   *
   * @param refused have no answer
   * @param refusal why one of them has none; null if all have one
   * @param unread have an answer in which no rating was found
   * @param example of such an answer; null if there is none
   */
  public record Outcome(int questions, int refused, String refusal, int unread, String example) {}

  private final Chat chat;
  private final GrowingFile kept;
  private final Map<String, String> answers = new HashMap<>();
  private final Set<String> asked = new LinkedHashSet<>(); // keys of questions
  private String refusal;

  /**
   * A judge that keeps its answers.
   *
   * @param chat who judges; closed with this
   * @param file of answers, which is made or gone on with
   * @throws BadFileException if the file is something else
   */
  public Judge(Chat chat, Path file) {
    this.chat = chat;
    this.kept = new GrowingFile(file, MOST_BYTES);
    try {
      int number = 0;
      for (String line : kept.lines().lines().toList()) {
        number++;
        Path place = Path.of(file + ", line " + number);
        JsonObject json = JsonObject.parse(place, line.getBytes(StandardCharsets.UTF_8));
        json.only("key", "judge", "answer");
        answers.put(json.text("key"), json.text("answer"));
      }
      if (!kept.rest().isEmpty() && !kept.rest().startsWith("{")) {
        throw new BadFileException(file, "is no file of a judge's answers: name another one");
      }
      kept.keepLines();
    } catch (RuntimeException e) {
      kept.close();
      throw e;
    }
  }

  /** Who judges. */
  public String name() {
    return chat.name();
  }

  /**
   * Rates answers; equal ones are asked about once.
   *
   * @throws RuntimeException if the judge cannot go on; what it answered before is kept
   */
  List<Ratings> rate(List<Asked> rated) {
    Map<String, String> open = new LinkedHashMap<>(); // questions by key
    for (Asked each : rated) {
      for (String question : questions(each)) {
        String key = key(question);
        asked.add(key);
        if (!answers.containsKey(key)) {
          open.put(key, question);
        }
      }
    }
    List<String> keys = List.copyOf(open.keySet());
    chat.ask(
        open.values().stream().map(text -> List.of(new Message("user", text))).toList(),
        answer -> {
          if (answer.text() != null) {
            keep(keys.get(answer.conversation()), answer.text());
          } else if (refusal == null) { // it is asked again another time
            refusal = answer.refusal();
          }
        });
    List<Ratings> ratings = new ArrayList<>();
    for (Asked each : rated) {
      double[] three = questions(each).stream().mapToDouble(this::rating).toArray();
      ratings.add(new Ratings(each.more ? three[0] : 2 - three[0], three[1], three[2]));
    }
    return ratings;
  }

  /** What became of all that was to be asked. */
  public Outcome outcome() {
    int refused = 0;
    int unread = 0;
    String example = null;
    for (String key : asked) {
      String answer = answers.get(key);
      if (answer == null) {
        refused++;
      } else if (Double.isNaN(parse(answer))) {
        unread++;
        example = example == null ? answer : example;
      }
    }
    return new Outcome(asked.size(), refused, refused == 0 ? null : refusal, unread, example);
  }

  private static List<String> questions(Asked asked) {
    return List.of(
        CONCEPT.formatted(asked.concept, asked.answer),
        INSTRUCTION.formatted(asked.instruction, asked.answer),
        FLUENCY.formatted(asked.answer));
  }

  private void keep(String key, String answer) {
    answers.put(key, answer);
    kept.append(Json.text(Json.object("key", key, "judge", name(), "answer", answer)) + "\n");
  }

  private double rating(String question) {
    return parse(answers.getOrDefault(key(question), ""));
  }

  /** The last rating in an answer; NaN if there is none from 0 to 2. */
  static double parse(String answer) {
    Matcher found = RATING.matcher(answer);
    double rating = Double.NaN;
    while (found.find()) {
      rating = Double.parseDouble(found.group(1));
    }
    return rating <= 2 ? rating : Double.NaN;
  }

  private String key(String question) {
    byte[] text = (name() + "\n" + VERSION + "\n" + question).getBytes(StandardCharsets.UTF_8);
    return HexFormat.of().formatHex(Fingerprint.sha256().digest(text));
  }

  @Override
  public void close() {
    try (chat) {
      kept.close();
    }
  }
}
