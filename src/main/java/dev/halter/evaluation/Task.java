package dev.halter.evaluation;

import dev.halter.generation.LanguageModel;
import dev.halter.text.Message;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;

/**
 * Items that are all scored in one way.
 *
 * @param name of the task
 * @param measures what its score tells of a plan
 * @param more whether a larger score is wanted
 * @param prompting what to tell the model instead of steering it; null for nothing
 * @param maxTokens most tokens of an answer
 */
public record Task(
    String name,
    Measures measures,
    Score score,
    boolean more,
    String prompting,
    int maxTokens,
    List<Item> items) {

  /** What a task is for. */
  public enum Measures {
    /** What a plan is to change. */
    BEHAVIOUR,
    /** What it is to leave alone. */
    CAPABILITY
  }

  /**
   * One of a task's items. What its score does not look at is empty.
   *
   * @param id distinct among the task's
   * @param messages a conversation for the chat template; null where {@code prompt} is given
   * @param prompt plain text to go on from, or the text whose perplexity is measured
   * @param answers that are right
   * @param choices texts that may follow, as they stand
   * @param answer index of the right choice
   * @param concept what a judge looks for
   */
  public record Item(
      String id,
      List<Message> messages,
      String prompt,
      List<String> answers,
      List<String> choices,
      int answer,
      String concept) {

    static Item ask(String id, String question) {
      return new Item(
          id, List.of(new Message("user", question)), null, List.of(), List.of(), -1, null);
    }

    static Item text(String id, String prompt) {
      return new Item(id, null, prompt, List.of(), List.of(), -1, null);
    }

    Item withAnswers(List<String> right) {
      return new Item(id, messages, prompt, right, choices, answer, concept);
    }

    Item withChoices(List<String> texts, int right) {
      return new Item(id, messages, prompt, answers, texts, right, concept);
    }

    Item withConcept(String wanted) {
      return new Item(id, messages, prompt, answers, choices, answer, wanted);
    }

    /** What the item asks, in words. */
    String instruction() {
      return messages == null ? prompt : messages.getLast().content();
    }

    /**
     * What the model is given.
     *
     * @param prompting comes before: as the system message of a conversation, which it follows if
     *     there is one, or as the first line of a text; null for nothing
     */
    String rendered(LanguageModel model, String prompting) {
      if (messages == null) {
        return prompting == null ? prompt : prompting + "\n" + prompt;
      }
      if (prompting == null) {
        return model.render(messages);
      }
      boolean hasSystem = messages.getFirst().role().equals("system");
      String system = hasSystem ? messages.getFirst().content() + " " + prompting : prompting;
      List<Message> told = new ArrayList<>();
      told.add(new Message("system", system));
      told.addAll(hasSystem ? messages.subList(1, messages.size()) : messages);
      return model.render(told);
    }

    /** Tokens of a text that the item was rendered to. */
    int[] encode(LanguageModel model, String rendered) {
      return model.tokenizer().encode(rendered, messages == null);
    }
  }

  /** Whether answers are generated. */
  boolean isGenerated() {
    return score instanceof Score.OfText || score instanceof Score.Judged;
  }

  /** How much of what is wanted a mean score is, 0 to 1; a perplexity has no such measure. */
  double wanted(double mean) {
    double share = (mean - score.low()) / (score.high() - score.low());
    // A judge's rating is of what is wanted already.
    return more || score instanceof Score.Judged ? share : 1 - share;
  }

  /** Share of an unsteered capability that is kept, at most 1. */
  double kept(double unsteered, double steered) {
    double share =
        score instanceof Score.Texts ? unsteered / steered : wanted(steered) / wanted(unsteered);
    return Double.isNaN(share) ? 1 : Math.clamp(share, 0, 1);
  }

  /** The texts that tasks would tell the model instead of steering it, each once. */
  static List<String> promptings(List<Task> tasks) {
    return tasks.stream().map(Task::prompting).flatMap(Stream::ofNullable).distinct().toList();
  }
}
