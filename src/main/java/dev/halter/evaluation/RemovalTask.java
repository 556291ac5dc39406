package dev.halter.evaluation;

import dev.halter.files.JsonObject;
import dev.halter.generation.LanguageModel;
import dev.halter.scoring.Question;
import dev.halter.text.Message;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * A behaviour that is to go with some concepts, and how both that and harm to other answers show.
 *
 * @param remove concepts of a dictionary
 * @param instruction against the behaviour, for asking the model
 * @param marks words in small letters; an answer with any of them has the behaviour
 * @param behaviour questions that bring it out
 * @param unrelated questions that should be answered as before
 */
public record RemovalTask(
    List<String> remove,
    String instruction,
    List<String> marks,
    List<Item> behaviour,
    List<Item> unrelated) {

  /**
   * A question of the task.
   *
   * @param plain tokens of the conversation without its system message
   * @param asked the conversation, and what a plain answer is
   * @param instructed the same with the instruction after the system message
   */
  public record Item(int[] plain, Question asked, Question instructed) {}

  /**
   * Reads {@code {"remove": [concept, …], "instruction", "marks": [word, …], "behaviour":
   * [{"system", "prompt", "match", "answers"}, …], "unrelated": [{"prompt", "match", "answers"},
   * …]}}, with matches as {@link Question} reads them.
   *
   * @throws dev.halter.files.BadFileException naming the key that is missing or wrong
   */
  public static RemovalTask read(Path file, LanguageModel model) {
    JsonObject json = JsonObject.read(file);
    json.only("remove", "instruction", "marks", "behaviour", "unrelated");
    String instruction = json.text("instruction");
    return new RemovalTask(
        words(json, "remove"),
        instruction,
        words(json, "marks").stream().map(mark -> mark.toLowerCase(Locale.ROOT)).toList(),
        items(json, "behaviour", instruction, model),
        items(json, "unrelated", instruction, model));
  }

  private static List<String> words(JsonObject json, String key) {
    List<String> words = json.texts(key);
    if (words.isEmpty() || words.stream().anyMatch(String::isBlank)) {
      throw json.wrong(key, "a list of at least one word, none of them empty");
    }
    return words;
  }

  private static List<Item> items(
      JsonObject json, String key, String instruction, LanguageModel model) {
    List<Item> items = new ArrayList<>();
    for (JsonObject item : json.objects(key)) {
      boolean behaviour = key.equals("behaviour");
      if (behaviour) {
        item.only("system", "prompt", "match", "answers");
      } else {
        item.only("prompt", "match", "answers");
      }
      String user = item.text("prompt");
      String system = behaviour ? item.text("system") : "";
      items.add(
          new Item(
              conversation(model, "", user),
              Question.of(key, conversation(model, system, user), item, model),
              Question.of(
                  key,
                  conversation(model, (system + " " + instruction).strip(), user),
                  item,
                  model)));
    }
    if (items.size() < 2) {
      throw json.wrong(key, "a list of at least two questions: one half sets up, one measures");
    }
    return items;
  }

  private static int[] conversation(LanguageModel model, String system, String user) {
    List<Message> messages = new ArrayList<>();
    if (!system.isEmpty()) {
      messages.add(new Message("system", system));
    }
    messages.add(new Message("user", user));
    return model.encode(messages);
  }

  /** Whether an answer has the behaviour. */
  boolean shows(String answer) {
    String lower = answer.toLowerCase(Locale.ROOT);
    return marks.stream().anyMatch(lower::contains);
  }

  /** The same task with every second question, from the given one. */
  RemovalTask half(int first) {
    return new RemovalTask(
        remove, instruction, marks, second(behaviour, first), second(unrelated, first));
  }

  private static List<Item> second(List<Item> items, int first) {
    List<Item> half = new ArrayList<>();
    for (int i = first; i < items.size(); i += 2) {
      half.add(items.get(i));
    }
    return half;
  }
}
