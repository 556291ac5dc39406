package dev.halter.evaluation;

import dev.halter.evaluation.PlanEvaluation.Tried;
import dev.halter.generation.Alternatives;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.LogProbabilities;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import dev.halter.model.Capture;
import dev.halter.model.Site;
import dev.halter.scoring.Logits;
import dev.halter.steering.SteeringPlan;
import dev.halter.weights.Fingerprint;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;

/**
 * Runs the items of tasks in all arms, some items at a time, which then are finished: a batch for
 * answers and choices, in which an item's arms stand side by side and so share what their prompts
 * have in common, one for what the unsteered model makes of the answers, and few for distances,
 * whose logits are large.
 */
final class Readings {
  private static final Site LOGITS = new Site(Site.Kind.LOGITS, -1);

  /** Distances are measured along so many tokens at most. */
  private static final int ALONG = 32;

  /** Logits that are kept at once: 256 MB. */
  private static final long MOST_LOGITS = 64L << 20;

  /**
   * Answers at a time, for each sequence that runs at once: a kill costs few, and that the last of
   * each time run with ever fewer beside them is little of the work.
   */
  private static final int ROUNDS = 8;

  private final LanguageModel model;
  private final List<Arm> arms;
  private final int ways; // to steer: readings of an item
  private final List<List<Reading>> items = new ArrayList<>();
  private final Map<Reading, Reading> unsteered = new HashMap<>();

  private Readings(LanguageModel model, List<Task> tasks, List<Arm> arms) {
    this.model = model;
    this.arms = arms;
    this.ways = arms.stream().mapToInt(arm -> arm.draws().size()).sum();
    for (Task task : tasks) {
      for (int item = 0; item < task.items().size(); item++) {
        items.add(item(task, item));
      }
    }
  }

  /** The readings of an item, the unsteered first. */
  private List<Reading> item(Task task, int index) {
    Task.Item item = task.items().get(index);
    int[] plain = item.encode(model, item.rendered(model, null));
    List<Reading> readings = new ArrayList<>();
    for (Arm arm : arms) {
      boolean told = arm.prompting() != null && !(task.score() instanceof Score.Texts);
      int[] prompt = told ? item.encode(model, item.rendered(model, arm.prompting())) : plain;
      for (int draw = 0; draw < arm.draws().size(); draw++) {
        Reading reading = new Reading(task, index, arm, draw, prompt, plain);
        readings.add(reading);
        unsteered.put(reading, readings.getFirst());
      }
    }
    return readings;
  }

  /**
   * Reads all items in all arms, of which the first is the one without a plan.
   *
   * @param judge rates answers; null if no task asks for one
   * @param finished items that need not be read again, and where those go that are
   * @param progress hears what is done next
   * @return by task, item, arm and draw
   */
  static List<Reading> of(
      LanguageModel model,
      Tried tried,
      List<Arm> arms,
      Judge judge,
      FinishedItems finished,
      Consumer<String> progress) {
    Readings all = new Readings(model, tried.tasks(), arms);
    int count = all.items.size();
    List<List<Reading>> open = finished.restore(all.identity(tried, judge), all.items);
    int done = count - open.size();
    progress.accept(
        "%,d items, %,d ways to steer%s"
            .formatted(
                count, all.ways, done == 0 ? "" : "; %,d items were done before".formatted(done)));
    int most = Math.max(1, ROUNDS * model.llama().limits().sequences() / all.ways);
    for (int first = 0; first < open.size(); first += most) {
      List<List<Reading>> some = open.subList(first, Math.min(open.size(), first + most));
      all.finish(some.stream().flatMap(List::stream).toList(), judge, progress);
      some.forEach(finished::keep);
      done += some.size();
      if (done < count) {
        progress.accept("%,d of %,d items done".formatted(done, count));
      }
    }
    return all.items.stream().flatMap(List::stream).toList();
  }

  /** What tells this run from others: where all of it is the same, so are the answers. */
  private Map<String, String> identity(Tried tried, Judge judge) {
    MessageDigest prompts = Fingerprint.sha256();
    for (List<Reading> item : items) {
      for (Reading reading : item) {
        if (reading == item.getFirst() || reading.arm().kind() == Arm.Kind.PROMPTING) {
          int[] tokens = reading.prompt; // plans have the first one's
          ByteBuffer bytes = ByteBuffer.allocate(4 * (tokens.length + 1)).putInt(tokens.length);
          bytes.asIntBuffer().put(tokens);
          prompts.update(bytes.array());
        }
      }
    }
    Map<String, String> identity = new LinkedHashMap<>();
    identity.put("model", model.llama().fingerprint());
    identity.put("device", model.device().kind());
    identity.put("dtype", model.llama().type().name());
    identity.put("prompts", HexFormat.of().formatHex(prompts.digest()));
    identity.putAll(tried.identity());
    identity.put("judge", judge == null ? "" : judge.name() + ", prompts " + Judge.VERSION);
    return identity;
  }

  /** All that there is to know of some items. */
  private void finish(List<Reading> some, Judge judge, Consumer<String> progress) {
    answer(some);
    surprise(some);
    measureDistances(some);
    judge(some, judge, progress);
  }

  // Answers, choices and texts

  private void answer(List<Reading> readings) {
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

  private void surprise(List<Reading> readings) {
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

  private void measureDistances(List<Reading> readings) {
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

  private void judge(List<Reading> readings, Judge judge, Consumer<String> progress) {
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
