package dev.halter.tuning;

/**
 * A text to learn from.
 *
 * @param tokens prompt and completion
 * @param prompt tokens of the prompt, which are read but not learnt: at least one
 */
record Example(int[] tokens, int prompt) {
  Example {
    if (prompt < 1 || prompt >= tokens.length) {
      throw new IllegalArgumentException(
          "%d of %d tokens are the prompt: a prompt and a completion have at least one each"
              .formatted(prompt, tokens.length));
    }
  }

  /** Tokens that go through the model: all but the last, which only is predicted. */
  int rows() {
    return tokens.length - 1;
  }

  /** Tokens of the completion: so many predictions have a loss. */
  int targets() {
    return tokens.length - prompt;
  }
}
