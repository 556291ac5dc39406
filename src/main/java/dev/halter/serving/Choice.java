package dev.halter.serving;

import dev.halter.generation.Alternatives;
import dev.halter.generation.Generation;
import dev.halter.generation.Result;
import dev.halter.steering.SteeringReport;
import dev.halter.text.StreamingDecoder;
import dev.halter.text.Tokenizer;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;

/**
 * One answer to one prompt, while it is made.
 *
 * @param index among the answers to a request
 * @param prompt the text of the prompt, for those that are to repeat it
 * @param context tokens before the answer on which its text depends: some tokenizers drop the blank
 *     of a text's first token
 */
record Choice(
    int index,
    String prompt,
    int[] context,
    Generation generation,
    GenerationFields fields,
    Tokenizer tokenizer) {

  /** Tokens that tell how the next one is written. */
  private static final int CONTEXT = 6;

  /** Stands for bytes that are no character. */
  private static final String BROKEN = "\uFFFD";

  Choice(
      int index,
      String prompt,
      Generation generation,
      boolean goesOn,
      GenerationFields fields,
      Tokenizer tokenizer) {
    this(
        index,
        prompt,
        goesOn ? end(generation.request().prompt()) : new int[0],
        generation,
        fields,
        tokenizer);
  }

  private static int[] end(int[] tokens) {
    return Arrays.copyOfRange(tokens, Math.max(0, tokens.length - CONTEXT), tokens.length);
  }

  /**
   * A part of an answer.
   *
   * @param tokens whose text it is, or some of it; the last may be the one that ended the answer,
   *     which has no text
   * @param finishReason of the last part, else null
   * @param stopReason the text or the id of the token that ended it, if the request named it
   */
  record Piece(
      String text, List<Generation.Token> tokens, String finishReason, Object stopReason) {}

  /**
   * A whole answer.
   *
   * @param prompt tokens of the prompt with their log-probabilities, if they were asked for
   */
  record Outcome(Piece answer, List<Generation.Token> prompt, SteeringReport report) {}

  /** Hears of an answer while it is made. */
  @FunctionalInterface
  interface Listener {
    void piece(Piece piece) throws IOException;
  }

  /** Waits for the answer. */
  Outcome await() {
    if (fields.watches()) {
      try {
        return await(piece -> {});
      } catch (IOException e) {
        throw new AssertionError(e); // from nowhere
      }
    }
    Result result = generation.result().join();
    String text = decode(result.tokens());
    List<Generation.Token> tokens = new ArrayList<>();
    generation.tokens().forEach(tokens::add);
    if (result.stop() != null) {
      tokens.add(result.stop());
    }
    return outcome(text, tokens, result);
  }

  private String decode(int[] tokens) {
    if (context.length == 0) {
      return tokenizer.decode(tokens, fields.skipsSpecial());
    }
    int[] all = Arrays.copyOf(context, context.length + tokens.length);
    System.arraycopy(tokens, 0, all, context.length, tokens.length);
    String before = tokenizer.decode(context, fields.skipsSpecial());
    String text = tokenizer.decode(all, fields.skipsSpecial());
    // A prompt may end in the midst of a character.
    return text.startsWith(before)
        ? text.substring(before.length())
        : tokenizer.decode(tokens, fields.skipsSpecial());
  }

  /**
   * Waits for the answer.
   *
   * @param listener hears of each part that can be shown; the last is its end
   * @throws IOException the listener's
   */
  Outcome await(Listener listener) throws IOException {
    StreamingDecoder decoder = new StreamingDecoder(tokenizer, fields.skipsSpecial());
    for (int token : context) {
      decoder.next(token);
    }
    boolean isMidway = tokenizer.decode(context, fields.skipsSpecial()).endsWith(BROKEN);
    StopTexts stops = new StopTexts(fields.stops(), fields.includesStop());
    StringBuilder text = new StringBuilder();
    List<Generation.Token> tokens = new ArrayList<>();
    int shown = 0;
    Iterator<Generation.Token> coming = generation.tokens().iterator();
    while (stops.found() == null && coming.hasNext()) {
      Generation.Token token = coming.next();
      tokens.add(token);
      String fresh = decoder.next(token.id());
      if (isMidway && !fresh.isEmpty()) { // a character that stays broken is the prompt's
        fresh = fresh.startsWith(BROKEN) ? fresh.substring(1) : fresh;
        isMidway = false;
      }
      String ready = tokens.size() <= fields.minTokens() ? stops.pass(fresh) : stops.add(fresh);
      text.append(ready);
      if (stops.found() == null && !ready.isEmpty()) {
        listener.piece(new Piece(ready, tokens.subList(shown, tokens.size()), null, null));
        shown = tokens.size();
      } else if (stops.found() != null) {
        generation.cancel();
        Piece last = new Piece(ready, tokens.subList(shown, tokens.size()), "stop", stops.found());
        listener.piece(last);
        Result result = generation.result().join(); // of the step that runs
        return new Outcome(
            new Piece(text.toString(), tokens, "stop", stops.found()),
            result.prompt(),
            result.report());
      }
    }
    Result result = generation.result().join();
    if (result.stop() != null) {
      tokens.add(result.stop());
    }
    String rest = stops.pass(decoder.finish());
    text.append(rest);
    Outcome outcome = outcome(text.toString(), tokens, result);
    listener.piece(
        new Piece(
            rest,
            tokens.subList(shown, tokens.size()),
            outcome.answer.finishReason,
            outcome.answer.stopReason));
    return outcome;
  }

  private Outcome outcome(String text, List<Generation.Token> tokens, Result result) {
    String reason =
        switch (result.finish()) {
          case STOP -> "stop";
          case LENGTH -> "length";
          case CANCELLED, DEADLINE -> "abort";
        };
    Integer stop = result.stop() == null ? null : result.stop().id();
    Object stopReason = fields.stopTokens().contains(stop) ? stop : null;
    return new Outcome(
        new Piece(text, tokens, reason, stopReason), result.prompt(), result.report());
  }

  /** How a token is called in log-probabilities: no two by one name. */
  String name(int token) {
    String piece = tokenizer.piece(token);
    boolean isOnly = tokenizer.idOf(piece).orElse(-1) == token;
    return fields.namesIds() || !isOnly ? "token_id:" + token : piece;
  }

  /** The likeliest tokens of a place, then those that were named. */
  static List<Alternatives.Candidate> candidates(Generation.Token token) {
    List<Alternatives.Candidate> all = new ArrayList<>(token.alternatives().likeliest());
    all.addAll(token.alternatives().named());
    return all;
  }

  /** JSON has no infinity: as vLLM does it, what is impossible is written -9999. */
  static float finite(float logProbability) {
    return Math.max(logProbability, -9999);
  }
}
