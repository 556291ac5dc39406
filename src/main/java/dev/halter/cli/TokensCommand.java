package dev.halter.cli;

import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.text.VisibleText;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

@Command(
    name = "tokens",
    description = "Shows a prompt as the chat template renders it, and its tokens.")
final class TokensCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @ArgGroup(multiplicity = "1")
  PromptOptions prompt;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    try (LanguageModel model = options.open(1)) {
      String text = prompt.text(model);
      int[] tokens = prompt.tokens(model);
      List<String> pieces =
          Arrays.stream(tokens).mapToObj(token -> model.tokenizer().piece(token)).toList();
      if (output.isJson()) {
        output.print(Json.object("text", text, "tokens", tokens, "pieces", pieces));
        return 0;
      }
      System.out.println(text);
      System.out.println();
      for (int i = 0; i < tokens.length; i++) {
        System.out.printf("%6d  %s%n", tokens[i], VisibleText.of(pieces.get(i)));
      }
      return 0;
    }
  }
}
