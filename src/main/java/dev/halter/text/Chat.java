package dev.halter.text;

import java.util.List;
import java.util.function.Consumer;

/** A language model that answers conversations. */
public interface Chat extends AutoCloseable {
  /**
   * What became of a conversation.
   *
   * @param conversation its index in the list that was asked
   * @param text the model's answer, null if it gave none
   * @param refusal why this conversation alone has no answer, else null
   */
  record Answer(int conversation, String text, String refusal) {}

  /** Tells this model from others, in tables of its answers. */
  String name();

  /**
   * Asks all conversations, several at once.
   *
   * @param heard is given each answer as soon as it stands, in any order, on the caller's thread
   * @throws RuntimeException if the model cannot go on; what it answered before has been given
   */
  void ask(List<List<Message>> conversations, Consumer<Answer> heard);

  @Override
  void close();
}
