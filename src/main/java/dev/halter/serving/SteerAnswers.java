package dev.halter.serving;

import static dev.halter.files.Json.object;

import dev.halter.files.Json;
import dev.halter.generation.Alternatives;
import dev.halter.generation.Generation;
import dev.halter.serving.dialects.Neuronpedia;
import dev.halter.text.Message;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;

/**
 * The answers to one of Neuronpedia's requests: at once, or as events of which each holds all that
 * stands by then. Where the client has gone they are cancelled, as {@link Answers} are.
 */
final class SteerAnswers {
  private final Neuronpedia asked;
  private final String prompt;
  private final List<Choice> choices;
  private final Metrics.Watch watch;
  private final Exchange exchange;
  private final List<StringBuilder> texts = new ArrayList<>(); // of each choice, by now
  private final List<List<Object>> logProbabilities = new ArrayList<>();
  private final Choice.Outcome[] outcomes;
  private Writing writing; // once the status is out

  /**
   * Answers to come.
   *
   * @param prompt as the model reads it
   * @param choices in the order of the types that are asked for
   */
  SteerAnswers(
      Neuronpedia asked,
      String prompt,
      List<Choice> choices,
      Metrics.Watch watch,
      Exchange exchange) {
    this.asked = asked;
    this.prompt = prompt;
    this.choices = choices;
    this.watch = watch;
    this.exchange = exchange;
    this.outcomes = new Choice.Outcome[choices.size()];
    choices.forEach(
        choice -> {
          texts.add(new StringBuilder());
          logProbabilities.add(new ArrayList<>());
        });
  }

  /** Sends them. */
  void send() throws IOException {
    try {
      CompletableFuture<?>[] coming =
          choices.stream()
              .map(choice -> CompletableFuture.runAsync(() -> run(choice), Answers.THREADS))
              .toArray(CompletableFuture[]::new);
      Answers.await(
          CompletableFuture.allOf(coming), () -> write(asked.isStream() ? ": \n\n" : " "));
      end();
    } catch (IOException | UncheckedIOException e) {
      cancel(); // nobody is there any more
      throw e;
    } catch (RuntimeException e) {
      if (writing != null) { // the status is out
        String error = Json.text((e instanceof ApiError api ? api : ApiError.ofServer()).plain());
        write(asked.isStream() ? "data: " + error + "\n\n" : error);
      }
      throw e;
    }
  }

  private synchronized void write(String text) throws IOException {
    if (writing == null) {
      writing = exchange.begin(200, asked.isStream() ? Answers.EVENTS : Answers.JSON);
    }
    writing.send(text);
  }

  private void cancel() {
    choices.forEach(choice -> choice.generation().cancel());
  }

  private void run(Choice choice) {
    try {
      outcomes[choice.index()] = choice.await(piece -> add(choice, piece));
      watch.ended(choice, outcomes[choice.index()]);
    } catch (IOException e) {
      cancel();
      throw new UncheckedIOException(e);
    } catch (RuntimeException e) {
      cancel(); // one that fails is the end of all
      throw e;
    }
  }

  private synchronized void add(Choice choice, Choice.Piece piece) throws IOException {
    texts.get(choice.index()).append(piece.text());
    piece.tokens().forEach(token -> logProbabilities.get(choice.index()).add(tell(choice, token)));
    if (asked.isStream()) {
      write("data: " + Json.text(document()) + "\n\n");
    }
  }

  private void end() throws IOException {
    Map<String, Object> document = document();
    document.put("halter", halter());
    if (asked.isStream()) {
      write("data: " + Json.text(document) + "\n\n");
    } else if (writing == null) {
      exchange.answer(200, document);
      return;
    } else {
      write(Json.text(document));
    }
    writing.close();
  }

  /** What steering did to the answer that is steered, or to the one that there is. */
  private Map<String, Object> halter() {
    int told = Math.max(0, asked.types().indexOf(Neuronpedia.Type.STEERED));
    return Answers.halter(choices.get(told).generation().request().plan(), List.of(outcomes[told]));
  }

  private Map<String, Object> document() {
    List<Object> outputs = new ArrayList<>();
    for (int i = 0; i < choices.size(); i++) {
      String text = texts.get(i).toString();
      Map<String, Object> output = object("type", asked.types().get(i).name());
      if (asked.messages().isEmpty()) {
        output.put("output", text);
      } else {
        output.putAll(conversation(text));
      }
      if (asked.top() > 0) {
        output.put("logprobs", List.copyOf(logProbabilities.get(i)));
      }
      outputs.add(output);
    }
    Map<String, Object> document = object("outputs", outputs);
    if (!asked.messages().isEmpty()) {
      document.put("input", conversation(""));
    }
    return document;
  }

  /** The chat with its answer, if there is any yet. */
  private Map<String, Object> conversation(String answer) {
    List<Object> turns = new ArrayList<>();
    for (Message message : asked.messages()) {
      turns.add(object("role", message.role(), "content", message.content()));
    }
    if (!answer.isEmpty()) {
      turns.add(object("role", "assistant", "content", answer.strip()));
    }
    return object("chatTemplate", turns, "raw", prompt + answer);
  }

  private static Map<String, Object> tell(Choice choice, Generation.Token token) {
    List<Object> likeliest = new ArrayList<>();
    for (Alternatives.Candidate each : Choice.candidates(token)) {
      likeliest.add(
          object(
              "token", choice.name(each.token()),
              "logprob", Choice.finite(each.logProbability())));
    }
    return object(
        "token", choice.name(token.id()),
        "logprob", Choice.finite(token.logProbability()),
        "topLogprobs", likeliest);
  }
}
