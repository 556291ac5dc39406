package dev.halter.generation;

import dev.halter.steering.SteeringPlan;
import dev.halter.text.Message;
import java.util.ArrayList;
import java.util.List;

/**
 * A conversation of several turns through the model's chat template:
 *
 * {@snippet file="dev/halter/snippets/GenerationSnippetsTest.java" region="conversation"}
 *
 * <p>Each turn is answered as if the model read the whole conversation anew under the plan of that
 * turn: a plan that acts on the prompt acts on the earlier turns too. Where the conversation gets
 * longer than the context, the first turns are left out.
 */
public final class Conversation {

  /**
   * What the model is to read for a question.
   *
   * @param tokens the conversation with the question, as the template renders it
   * @param leftOut turns at the beginning that did not fit
   */
  public record Prompt(String question, int[] tokens, int leftOut) {}

  /** A question and its answer. */
  private record Turn(Prompt prompt, Answer answer) {}

  private final LanguageModel model;
  private final int maxTokens;
  private final List<Turn> turns = new ArrayList<>();
  private String system;

  /**
   * An empty conversation.
   *
   * @param maxTokens longest answer; the conversation leaves it room, at most half of the context
   * @throws IllegalArgumentException if the model has no chat template
   */
  public Conversation(LanguageModel model, int maxTokens) {
    this.model = model;
    this.maxTokens = maxTokens;
    model.render(messages("?", 0));
  }

  /**
   * Sets what the template puts before the conversation; null for nothing.
   *
   * @throws IllegalArgumentException if the model's template takes no such message
   */
  public void setSystem(String text) {
    String before = system;
    system = text;
    try {
      model.render(messages("?", turns.size()));
    } catch (IllegalArgumentException e) {
      system = before;
      throw e;
    }
  }

  /**
   * Asks a question without answering it yet: as many of the last turns go before it as fit.
   *
   * @throws IllegalArgumentException if the question alone does not fit, or is not for the template
   */
  public Prompt prompt(String question) {
    int room = model.engine().maxTokens();
    room -= Math.min(maxTokens, room / 2);
    int leftOut = 0;
    int[] tokens = model.encode(messages(question, 0));
    while (tokens.length > room && leftOut < turns.size()) {
      leftOut++;
      tokens = model.encode(messages(question, leftOut));
    }
    model.engine().check(model.request(tokens).withMaxTokens(maxTokens));
    return new Prompt(question, tokens, leftOut);
  }

  private List<Message> messages(String question, int leftOut) {
    List<Message> messages = new ArrayList<>();
    if (system != null) {
      messages.add(new Message("system", system));
    }
    for (Turn turn : turns.subList(leftOut, turns.size())) {
      messages.add(new Message("user", turn.prompt.question));
      messages.add(new Message("assistant", turn.answer.text()));
    }
    messages.add(new Message("user", question));
    return messages;
  }

  /**
   * Answers, and takes the turn into the conversation.
   *
   * @param prompt the last that {@link #prompt} gave
   * @param listener hears of each token, or null
   * @throws IllegalArgumentException if the plan cannot act here; the conversation is as before
   */
  public Answer answer(
      Prompt prompt, SteeringPlan plan, Sampling sampling, Request.Listener listener) {
    Answer answer = model.generate(request(prompt, plan, sampling).with(listener));
    turns.add(new Turn(prompt, answer));
    return answer;
  }

  /**
   * Answers the last question again under each of several plans, in one batch. The conversation
   * stays as it is.
   *
   * @throws IllegalArgumentException if there is no question yet, or a plan cannot act on it
   */
  public List<Answer> again(List<SteeringPlan> plans, Sampling sampling) {
    Prompt prompt = last().prompt;
    return model.generate(plans.stream().map(plan -> request(prompt, plan, sampling)).toList());
  }

  private Request request(Prompt prompt, SteeringPlan plan, Sampling sampling) {
    return model.request(prompt.tokens).withMaxTokens(maxTokens).with(plan).with(sampling);
  }

  private Turn last() {
    if (turns.isEmpty()) {
      throw new IllegalArgumentException("nothing was asked yet");
    }
    return turns.getLast();
  }

  /** Number of questions and answers. */
  public int turns() {
    return turns.size();
  }

  /** The last answer. */
  public Answer lastAnswer() {
    return last().answer;
  }

  /** Takes the last question and its answer back, and returns the question. */
  public String undo() {
    String question = last().prompt.question;
    turns.removeLast();
    return question;
  }

  /** Takes all questions and answers back. */
  public void clear() {
    turns.clear();
  }
}
