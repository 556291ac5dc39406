package dev.halter.text;

import java.util.ArrayList;
import java.util.List;

/**
 * Turns tokens into text while they are generated. A character whose bytes are spread over several
 * tokens appears once it is whole, and all that was returned together is what {@link
 * Tokenizer#decode} gives for all tokens at once, but for bytes that never become a character. A
 * run of such bytes is decoded with what stands in the window, not with all tokens: it may come as
 * another number of U+FFFD, and where a tokenizer gives up a whole run for one bad byte, as those
 * with byte tokens do, a character that stood whole before the bad byte came may be shown here and
 * be U+FFFD there. The tokens themselves are the same.
 *
 * <p>Only a window of tokens is decoded each time: those not yet shown and, before them, those
 * shown last, since how a token prints can depend on whether another one precedes it (SentencePiece
 * drops the space of the first). After vLLM's and text-generation-inference's incremental
 * detokenizers.
 */
public final class StreamingDecoder {
  private static final char REPLACEMENT = '\uFFFD';

  private final Tokenizer tokenizer;
  private final boolean skipSpecial;
  private List<Integer> window = new ArrayList<>();

  /** How many tokens of the window are there for context only. */
  private int context;

  /** How many characters of the window's text were returned, context included. */
  private int shown;

  /**
   * A decoder for one generated text.
   *
   * @param skipSpecial whether to leave out special tokens
   */
  public StreamingDecoder(Tokenizer tokenizer, boolean skipSpecial) {
    this.tokenizer = tokenizer;
    this.skipSpecial = skipSpecial;
  }

  /** The text that {@code token} completes; empty where it completes none. */
  public String next(int token) {
    if (skipSpecial && isSpecial(token)) {
      return "";
    }
    window.add(token);
    String text = decode(window);
    int whole = text.length();
    while (whole > 0 && text.charAt(whole - 1) == REPLACEMENT) {
      whole--;
    }
    String fresh = text.substring(Math.min(shown, whole), whole);
    shown = Math.max(shown, whole);
    if (whole == text.length() && !fresh.isEmpty()) {
      window = new ArrayList<>(window.subList(context, window.size()));
      context = window.size();
      shown = decode(window).length();
    }
    return fresh;
  }

  /** The text held back: the U+FFFD of a character that stayed incomplete, mostly nothing. */
  public String finish() {
    String text = decode(window);
    String rest = text.substring(Math.min(shown, text.length()));
    window = new ArrayList<>();
    context = 0;
    shown = 0;
    return rest;
  }

  private String decode(List<Integer> tokens) {
    return tokenizer.decode(tokens.stream().mapToInt(Integer::intValue).toArray(), false);
  }

  /** Special tokens never enter the window, where they would hide what precedes a token. */
  private boolean isSpecial(int token) {
    int[] alone = {token};
    return tokenizer.decode(alone, true).isEmpty() && !tokenizer.decode(alone, false).isEmpty();
  }
}
