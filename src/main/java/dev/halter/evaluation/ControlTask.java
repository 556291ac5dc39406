package dev.halter.evaluation;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.Behaviour;
import dev.halter.heads.ContrastRows.Sides;
import dev.halter.patching.Pair;
import dev.halter.scoring.Question;
import dev.halter.steering.Reach;
import dev.halter.text.Message;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * A behaviour with two sides: a model shows the wanted one by itself, and the other under a system
 * message. To control it is to bring the wanted side back.
 *
 * @param name of the behaviour
 * @param measure what the share of right answers is called: corrected, declined, answered
 * @param train prompts that controls are chosen and fitted by
 * @param test prompts that they are measured on
 */
public record ControlTask(String name, String measure, List<Prompt> train, List<Prompt> test) {

  /**
   * A prompt on both sides.
   *
   * @param user the user's message
   * @param system the message that brings out the unwanted side
   * @param wanted tokens of the conversation without it
   * @param question the conversation with it, and what a wanted answer is
   */
  public record Prompt(String user, String system, int[] wanted, Question question) {}

  /**
   * What an evaluation reads.
   *
   * @param spared questions that the choice of a control may cost little, see {@link
   *     ControlEvaluation.Setting#cost}
   * @param other questions that a control should not change
   * @param texts that perplexity is measured on
   */
  public record Suite(
      List<ControlTask> tasks, List<Question> spared, List<Question> other, List<int[]> texts) {}

  /**
   * Reads {@code {"controls": [{"name", "measure", "systems": [message, …], "train": [{"prompt",
   * "match", "answers"}, …], "test": […]}, …], "other_train": [question, …], "other": [question,
   * …], "texts": [text, …]}}, with matches and questions as {@link Question} reads them. A task's
   * system messages take turns.
   *
   * @throws BadFileException naming the key that is missing or wrong
   */
  public static Suite read(Path file, LanguageModel model) {
    JsonObject json = JsonObject.read(file);
    json.only("controls", "other_train", "other", "texts");
    List<ControlTask> tasks = new ArrayList<>();
    for (JsonObject task : json.objects("controls")) {
      tasks.add(of(task, model));
    }
    if (tasks.isEmpty()) {
      throw json.wrong("controls", "a list of at least one behaviour");
    }
    List<Question> spared = questions(json, "other_train", model);
    List<Question> other = questions(json, "other", model);
    List<int[]> texts = json.texts("texts").stream().map(model::encode).toList();
    for (int[] text : texts) {
      if (text.length < 2) {
        throw json.wrong("texts", "a list of texts of two tokens or more");
      }
    }
    return new Suite(List.copyOf(tasks), spared, other, texts);
  }

  private static List<Question> questions(JsonObject json, String key, LanguageModel model) {
    return json.objects(key).stream().map(question -> Question.of(question, model)).toList();
  }

  private static ControlTask of(JsonObject json, LanguageModel model) {
    json.only("name", "measure", "systems", "train", "test");
    List<String> systems = json.texts("systems");
    if (systems.isEmpty()) {
      throw json.wrong("systems", "a list of at least one system message");
    }
    String name = json.text("name");
    return new ControlTask(
        name,
        json.text("measure"),
        prompts(json, "train", systems, name, model),
        prompts(json, "test", systems, name, model));
  }

  private static List<Prompt> prompts(
      JsonObject json, String key, List<String> systems, String kind, LanguageModel model) {
    List<Prompt> prompts = new ArrayList<>();
    for (JsonObject item : json.objects(key)) {
      item.only("prompt", "match", "answers");
      String system = systems.get(prompts.size() % systems.size());
      Message user = new Message("user", item.text("prompt"));
      int[] unwanted = model.encode(List.of(new Message("system", system), user));
      prompts.add(
          new Prompt(
              user.content(),
              system,
              model.encode(List.of(user)),
              Question.of(kind, unwanted, item, model)));
    }
    if (prompts.size() < 2) {
      throw json.wrong(key, "a list of at least two prompts");
    }
    return List.copyOf(prompts);
  }

  /**
   * The training prompts' conversations on both sides, with the tokens that are read of each. Of
   * all tokens only those that both sides end with can be read.
   *
   * @param most tokens of an answer
   */
  public Sides sides(LanguageModel model, Reach reach, int most) {
    List<int[]> positive = train.stream().map(Prompt::wanted).toList();
    List<int[]> negative = train.stream().map(prompt -> prompt.question().prompt()).toList();
    return switch (reach) {
      case END -> Sides.end(positive, negative);
      case ANSWER -> Sides.answered(model, positive, negative, most);
      case ALL -> Sides.answered(model, positive, negative, most).alike();
    };
  }

  /**
   * Pairs for path patching: END is where the two sides' answers part, reference is the wanted one.
   *
   * @throws IllegalArgumentException if the sides never differ
   */
  public List<Pair> pairs(LanguageModel model, int most) {
    List<Pair> pairs = new ArrayList<>();
    for (String system : train.stream().map(Prompt::system).distinct().toList()) {
      List<Behaviour> behaviours =
          train.stream()
              .filter(prompt -> prompt.system().equals(system))
              .map(prompt -> new Behaviour(name, prompt.user(), null))
              .toList();
      pairs.addAll(Behaviour.pairs(model, behaviours, null, system, most).pairs());
    }
    if (pairs.isEmpty()) {
      throw new IllegalArgumentException(
          "%s: no prompt's answer is changed by a system message: there is nothing to control"
              .formatted(name));
    }
    return pairs;
  }
}
