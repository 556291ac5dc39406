package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.Demo;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.Trigger;
import dev.halter.text.Message;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

class ConversationTest {
  private static final Path DEMO = Demo.FOLDER;
  private static final String QUESTION = Demo.QUESTION;
  private static final SteeringPlan DOG = Demo.dog();

  private static LanguageModel model;

  @BeforeAll
  static void open() {
    model = LanguageModel.at(DEMO).device("cpu").dtype("f32").context(128).maxBatch(2).open();
  }

  @AfterAll
  static void close() {
    model.close();
  }

  private static Answer ask(Conversation conversation, String question, SteeringPlan plan) {
    return conversation.answer(conversation.prompt(question), plan, Sampling.GREEDY, null);
  }

  private static int[] rendered(String... turns) {
    List<Message> messages = new ArrayList<>();
    for (int i = 0; i < turns.length; i++) {
      messages.add(new Message(i % 2 == 0 ? "user" : "assistant", turns[i]));
    }
    return model.encode(messages);
  }

  @Test
  void eachTurnReadsThoseBeforeItThroughTheTemplate() {
    Conversation conversation = new Conversation(model, 16);
    Answer first = ask(conversation, QUESTION, SteeringPlan.NONE);
    assertEquals(model.chat(QUESTION).text(), first.text());
    Conversation.Prompt second = conversation.prompt("Is it big?");
    assertArrayEquals(rendered(QUESTION, first.text(), "Is it big?"), second.tokens());
    conversation.answer(second, SteeringPlan.NONE, Sampling.GREEDY, null);
    assertEquals(2, conversation.turns());
    assertEquals("Is it big?", conversation.undo());
    assertArrayEquals(second.tokens(), conversation.prompt("Is it big?").tokens());
    conversation.clear();
    assertArrayEquals(rendered("Is it big?"), conversation.prompt("Is it big?").tokens());
  }

  @Test
  void theSystemMessageComesFirstUntilItIsTakenAway() {
    Conversation conversation = new Conversation(model, 16);
    conversation.setSystem("You are a farmer.");
    assertArrayEquals(
        model.encode(
            List.of(new Message("system", "You are a farmer."), new Message("user", QUESTION))),
        conversation.prompt(QUESTION).tokens());
    conversation.setSystem(null);
    assertArrayEquals(rendered(QUESTION), conversation.prompt(QUESTION).tokens());
  }

  @Test
  void eachTurnHasItsPlanAndTheLastIsAnsweredAgainUnderOthers() {
    Conversation conversation = new Conversation(model, 16);
    assertThrows(
        IllegalArgumentException.class,
        () -> conversation.again(List.of(SteeringPlan.NONE), Sampling.GREEDY));
    Answer plain = ask(conversation, QUESTION, SteeringPlan.NONE);
    conversation.undo();
    Answer steered = ask(conversation, QUESTION, DOG);
    assertNotEquals(plain.text(), steered.text());
    assertEquals(1, conversation.lastAnswer().report().interventions().size());
    List<Answer> again = conversation.again(List.of(SteeringPlan.NONE, DOG), Sampling.GREEDY);
    assertEquals(plain.text(), again.getFirst().text());
    assertEquals(steered.text(), again.getLast().text());
    assertEquals(1, conversation.turns());
  }

  @Test
  void aTurnThatFailsLeavesTheConversationAsItWas() {
    Conversation conversation = new Conversation(model, 16);
    ask(conversation, QUESTION, SteeringPlan.NONE);
    SteeringPlan nothing = DOG.when(Trigger.promptTokens(model.config().vocabularySize() - 1));
    String error =
        assertThrows(IllegalArgumentException.class, () -> ask(conversation, "Is it big?", nothing))
            .getMessage();
    assertTrue(error.contains("'dog' selects nothing"), error);
    assertEquals(1, conversation.turns());
  }

  @Test
  void theFirstTurnsAreLeftOutWhereTheContextEnds() {
    Conversation conversation = new Conversation(model, 16);
    int leftOut = 0;
    for (int i = 0; i < 12; i++) {
      Conversation.Prompt prompt = conversation.prompt(QUESTION);
      assertTrue(prompt.leftOut() >= leftOut);
      leftOut = prompt.leftOut();
      // The answer has its room.
      assertTrue(prompt.tokens().length <= 128 - 16);
      conversation.answer(prompt, SteeringPlan.NONE, Sampling.GREEDY, null);
    }
    assertTrue(leftOut > 0, "the conversation fits: the test shows nothing");
    assertTrue(leftOut < 11, "nothing of it is left");
    String error =
        assertThrows(IllegalArgumentException.class, () -> conversation.prompt("dog ".repeat(200)))
            .getMessage();
    assertTrue(error.contains("at most 128 fit"), error);
  }
}
