package dev.halter.concepts;

import dev.halter.generation.Answer;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.text.Chat;
import dev.halter.text.Message;
import java.util.Iterator;
import java.util.List;
import java.util.function.Consumer;
import java.util.stream.IntStream;

/** A model that Halter runs: greedy answers to conversations put through its chat template. */
public final class LocalChat implements Chat {
  private final LanguageModel model;
  private final int maxTokens;

  /**
   * Asks a model that is open.
   *
   * @param model is closed with this
   * @param maxTokens most tokens of an answer
   */
  public LocalChat(LanguageModel model, int maxTokens) {
    this.model = model;
    this.maxTokens = maxTokens;
  }

  @Override
  public String name() {
    return model.folder().getFileName() + " " + model.llama().fingerprint().substring(0, 12);
  }

  @Override
  public void ask(List<List<Message>> conversations, Consumer<Answer> heard) {
    Iterator<Request> requests =
        IntStream.range(0, conversations.size())
            .mapToObj(
                i -> {
                  int[] prompt = model.encode(conversations.get(i));
                  return model.request(prompt).withId("" + i).withMaxTokens(maxTokens);
                })
            .iterator();
    model
        .engine()
        .run(
            requests,
            result -> {
              int conversation = Integer.parseInt(result.request().id());
              heard.accept(
                  result.failure() == null
                      ? new Answer(conversation, model.decode(result.tokens()), null)
                      : new Answer(conversation, null, result.failure().getMessage()));
            });
  }

  @Override
  public void close() {
    model.close();
  }
}
