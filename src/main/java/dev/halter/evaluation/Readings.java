package dev.halter.evaluation;

import dev.halter.generation.Alternatives;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.LogProbabilities;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import dev.halter.model.Capture;
import dev.halter.model.Site;
import dev.halter.scoring.Logits;
import dev.halter.steering.SteeringPlan;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;

/**
 * Runs the items of tasks in all arms: one batch for answers and choices, in which an item's arms
 * stand side by side and so share what their prompts have in common, one for what the unsteered
 * model makes of the answers, and few for distances, whose logits are large.
 */
final class Readings {
  private static final Site LOGITS = new Site(Site.Kind.LOGITS, -1);

  /** Distances are measured along so many tokens at most. */
  private static final int ALONG = 32;

  /** Logits that are kept at once: 256 MB. */
  private static final long MOST_LOGITS = 64L << 20;

  private final LanguageModel model;
  private final List<Arm> arms;
  private final List<Reading> readings = new ArrayList<>();
  private final Map<Reading, Reading> unsteered = new HashMap<>();

  private Readings(LanguageModel model, List<Task> tasks, List<Arm> arms) {
    this.model = model;
    this.arms = arms;
    for (Task task : tasks) {
      for (int item = 0; item < task.items().size(); item++) {
        add(task, item);
      }
    }
  }

  /** The readings of an item, the unsteered first. */
  private void add(Task task, int index) {
    Task.Item item = task.items().get(index);
    int[] plain = item.encode(model, item.rendered(model, null));
    Reading first = null;
    for (Arm arm : arms) {
      boolean told = arm.prompting() != null && !(task.score() instanceof Score.Texts);
      int[] prompt = told ? item.encode(model, item.rendered(model, arm.prompting())) : plain;
      for (int draw = 0; draw < arm.draws().size(); draw++) {
        Reading reading = new Reading(task, index, arm, draw, prompt, plain);
        first = first == null ? reading : first;
        readings.add(reading);
        unsteered.put(reading, first);
      }
    }
  }

  /**
   * Reads all items in all arms, of which the first is the one without a plan.
   *
   * @param judge rates answers; null if no task asks for one
   * @param progress hears what is done next
   * @return by task, item, arm and draw
   */
  static List<Reading> of(
      LanguageModel model,
      List<Task> tasks,
      List<Arm> arms,
      Judge judge,
      Consumer<String> progress) {
    Readings all = new Readings(model, tasks, arms);
    progress.accept(
        "%,d items, %,d ways to steer"
            .formatted(
                tasks.stream().mapToInt(task -> task.items().size()).sum(),
                arms.stream().mapToInt(arm -> arm.draws().size()).sum()));
    all.answer();
    progress.accept("what the unsteered model makes of the answers");
    all.surprise();
    progress.accept("distances");
    all.measureDistances();
    all.judge(judge, progress);
    return all.readings;
  }

  // Answers, choices and texts

  private void answer() {
    List<Runnable> after = new ArrayList<>();
    List<Request> requests = new ArrayList<>();
    List<Consumer<Result>> takers = new ArrayList<>();
    for (Reading reading : readings) {
      switch (reading.task().score()) {
        case Score.Choice choice -> {
          choose(reading, requests, takers);
          after.add(() -> decide(reading));
        }
        case Score.Texts texts -> readText(reading, requests, takers);
        default -> {
          requests.add(
              model
                  .request(reading.prompt)
                  .withMaxTokens(reading.task().maxTokens())
                  .with(reading.plan()));
          takers.add(result -> take(reading, result));
        }
      }
    }
    run(requests, takers);
    after.forEach(Runnable::run);
    for (Reading reading : readings) {
      Reading first = unsteered.get(reading);
      reading.same =
          reading.logProbabilities == null
              ? Arrays.equals(reading.answer, first.answer)
              : likeliest(reading) == likeliest(first);
    }
  }

  private void run(List<Request> requests, List<Consumer<Result>> takers) {
    Iterator<Request> numbered =
        new Iterator<>() {
          private int next;

          @Override
          public boolean hasNext() {
            return next < requests.size();
          }

          @Override
          public Request next() {
            Request request = requests.get(next);
            return request.withId(Integer.toString(next++));
          }
        };
    model
        .engine()
        .run(
            numbered,
            result -> takers.get(Integer.parseInt(result.request().id())).accept(result.orThrow()));
  }

  private void take(Reading reading, Result result) {
    reading.answer = result.tokens();
    reading.text = model.decode(result.tokens()).strip();
    if (reading.task().score() instanceof Score.OfText score) {
      reading.score = score.of(reading.item(), reading.text);
    }
    if (reading.arm().kind() == Arm.Kind.NONE) {
      double sum = 0;
      for (float logProbability : result.logProbabilities()) {
        sum -= logProbability;
      }
      reading.surprise = sum;
      reading.surprised = result.tokens().length;
    }
  }

  /**
   * Log-probabilities of the choices. Those that are one token after the same prompt are read at
   * its end, where a plan meets them as it would meet an answer; of others all tokens are read
   * along.
   */
  private void choose(Reading reading, List<Request> requests, List<Consumer<Result>> takers) {
    List<String> choices = reading.item().choices();
    reading.logProbabilities = new double[choices.size()];
    Arrays.fill(reading.logProbabilities, Double.NaN);
    String rendered = reading.item().rendered(model, reading.arm().prompting());
    List<int[]> texts = new ArrayList<>();
    Set<Integer> ends = new HashSet<>();
    boolean single = true;
    int length = reading.prompt.length;
    for (String choice : choices) {
      int[] text = reading.item().encode(model, rendered + choice);
      if (text.length <= length) {
        throw new IllegalArgumentException(
            "%s, item %s: the choice \"%s\" adds no token to its prompt"
                .formatted(reading.task().name(), reading.item().id(), choice));
      }
      single &=
          text.length == length + 1
              && ends.add(text[length])
              && Arrays.equals(text, 0, length, reading.prompt, 0, length);
      texts.add(text);
    }
    if (single) {
      Integer[] tokens = texts.stream().map(text -> text[length]).toArray(Integer[]::new);
      requests.add(
          Request.of(reading.prompt)
              .withMaxTokens(1)
              .with(reading.plan())
              .with(LogProbabilities.of(tokens)));
      takers.add(
          result -> {
            List<Alternatives.Candidate> named = result.alternatives().getFirst().named();
            for (int i = 0; i < named.size(); i++) {
              reading.logProbabilities[i] = named.get(i).logProbability();
            }
          });
    } else if (!reading.plan().isSolvedAtPromptEnd()) {
      for (int i = 0; i < texts.size(); i++) {
        int choice = i;
        requests.add(read(texts.get(i), length, reading.plan()));
        takers.add(result -> reading.logProbabilities[choice] = -surprise(result, length));
      }
    }
  }

  private static void decide(Reading reading) {
    int likeliest = likeliest(reading);
    if (likeliest >= 0) {
      reading.score = likeliest == reading.item().answer() ? 1 : 0;
    }
  }

  /** The first of the likeliest; -1 if that is not known. */
  private static int likeliest(Reading reading) {
    double[] values = reading.logProbabilities;
    int best = Double.isNaN(values[0]) ? -1 : 0;
    for (int i = 1; best >= 0 && i < values.length; i++) {
      best = values[i] > values[best] ? i : best;
    }
    return best;
  }

  /** A text as the answer to its first token. */
  private void readText(Reading reading, List<Request> requests, List<Consumer<Result>> takers) {
    int[] text = reading.prompt;
    if (text.length < 2) {
      throw new IllegalArgumentException(
          "%s, item %s: a text must have two tokens or more"
              .formatted(reading.task().name(), reading.item().id()));
    }
    if (!reading.plan().isSolvedAtPromptEnd()) {
      requests.add(read(text, 1, reading.plan()));
      takers.add(
          result -> {
            reading.surprise = surprise(result, 1);
            reading.surprised = text.length - 1;
          });
    }
  }

  /** A text that is read in one go, as if what follows the prompt had been generated. */
  private static Request read(int[] text, int prompt, SteeringPlan plan) {
    return Request.of(text)
        .withMaxTokens(0)
        .with(plan.along(text, prompt))
        .with(LogProbabilities.NONE.withPrompt(0));
  }

  /** −Σ of the log-probabilities of a text's tokens from {@code first} on. */
  private static double surprise(Result result, int first) {
    return -result.prompt().stream().skip(first).mapToDouble(token -> token.logProbability()).sum();
  }

  // What the unsteered model makes of answers

  private void surprise() {
    record Said(Reading unsteered, List<Integer> answer) {}

    List<Request> requests = new ArrayList<>();
    List<Consumer<Result>> takers = new ArrayList<>();
    Map<Said, List<Reading>> said = new HashMap<>();
    for (Reading reading : readings) {
      Reading first = unsteered.get(reading);
      if (reading.text == null || reading == first) {
        continue;
      }
      if (reading.same) {
        reading.surprise = first.surprise;
        reading.surprised = first.surprised;
      } else if (reading.answer.length > 0) {
        List<Reading> alike =
            said.computeIfAbsent(
                new Said(first, Arrays.stream(reading.answer).boxed().toList()),
                key -> new ArrayList<>());
        alike.add(reading);
        if (alike.size() == 1) {
          requests.add(
              read(
                  join(reading.plain, reading.answer, reading.answer.length),
                  reading.plain.length,
                  SteeringPlan.NONE));
          takers.add(
              result -> {
                double surprise = surprise(result, reading.plain.length);
                for (Reading each : alike) {
                  each.surprise = surprise;
                  each.surprised = each.answer.length;
                }
              });
        }
      }
    }
    run(requests, takers);
  }

  private static int[] join(int[] prompt, int[] answer, int count) {
    int[] both = Arrays.copyOf(prompt, prompt.length + count);
    System.arraycopy(answer, 0, both, prompt.length, count);
    return both;
  }

  // Distances

  private void measureDistances() {
    int ways = arms.stream().mapToInt(arm -> arm.draws().size()).sum();
    int vocabulary = model.config().vocabularySize();
    int most = Math.clamp(MOST_LOGITS / ((long) ways * vocabulary), 1, ALONG);
    List<Reading> some = new ArrayList<>();
    long values = 0;
    for (int i = 0; i < readings.size(); i += ways) {
      some.addAll(readings.subList(i, i + ways));
      values += (long) ways * most * vocabulary;
      if (values >= MOST_LOGITS || i + ways == readings.size()) {
        measureDistances(some, most);
        some.clear();
        values = 0;
      }
    }
  }

  private void measureDistances(List<Reading> some, int most) {
    Map<Reading, float[]> logits = new HashMap<>();
    List<Request> requests = new ArrayList<>();
    List<Consumer<Result>> takers = new ArrayList<>();
    for (Reading reading : some) {
      if (!reading.plan().isSolvedAtPromptEnd()) {
        requests.add(along(reading, most));
        takers.add(result -> logits.put(reading, result.request().capture().values().get(LOGITS)));
      }
    }
    run(requests, takers);
    int vocabulary = model.config().vocabularySize();
    logits.forEach(
        (reading, rows) -> {
          float[] before = logits.get(unsteered.get(reading));
          double sum = 0;
          for (int at = 0; at < rows.length; at += vocabulary) {
            sum += Logits.divergence(before, at, rows, at, vocabulary);
          }
          reading.distance = sum / ((double) rows.length / vocabulary);
        });
  }

  /** Reads the logits at the prompt's end and along what the unsteered model said. */
  private Request along(Reading reading, int most) {
    int[] prompt = reading.prompt;
    int[] said = unsteered.get(reading).answer;
    if (reading.task().score() instanceof Score.Texts) {
      prompt = Arrays.copyOf(prompt, 1);
      said = Arrays.copyOfRange(reading.prompt, 1, reading.prompt.length);
    }
    int[] text = join(prompt, said, Math.min(most, Math.max(1, said.length)) - 1);
    Capture capture = new Capture(model.config(), Set.of(LOGITS), text.length, prompt.length - 1);
    return Request.of(text)
        .withMaxTokens(0)
        .with(reading.plan().along(text, prompt.length))
        .with(capture);
  }

  // Ratings

  private void judge(Judge judge, Consumer<String> progress) {
    List<Reading> rated =
        readings.stream().filter(each -> each.task().score() instanceof Score.Judged).toList();
    if (rated.isEmpty()) {
      return;
    }
    progress.accept("the judge, %,d answers".formatted(rated.size()));
    List<Judge.Ratings> ratings =
        judge.rate(
            rated.stream()
                .map(
                    each ->
                        new Judge.Asked(
                            each.item().concept(),
                            each.item().instruction(),
                            each.text,
                            each.task().more()))
                .toList());
    for (int i = 0; i < rated.size(); i++) {
      rated.get(i).ratings = ratings.get(i);
      rated.get(i).score = ratings.get(i).together();
    }
  }
}
