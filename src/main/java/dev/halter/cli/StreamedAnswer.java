package dev.halter.cli;

import dev.halter.generation.Generation;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.text.StreamingDecoder;

/** Prints an answer on standard output while it is made. */
final class StreamedAnswer implements Request.Listener {
  private final LanguageModel model;
  private final StreamingDecoder decoder;
  private boolean begun;

  StreamedAnswer(LanguageModel model) {
    this.model = model;
    this.decoder = new StreamingDecoder(model.tokenizer(), true);
  }

  @Override
  public void token(Generation.Token token) {
    begun = true;
    if (!model.stopTokens().contains(token.id())) {
      System.out.print(decoder.next(token.id()));
      System.out.flush();
    }
  }

  /** Ends its last line, unless there was not even a first token. */
  void end() {
    if (begun) {
      System.out.println(decoder.finish());
    }
  }
}
