package dev.halter.cli;

import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.Sampling;
import java.io.BufferedReader;
import java.io.Console;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "chat",
    description = {
      "Talks with a model, while plans are switched, scaled and compared.",
      "Lines that begin with / are commands: /help lists them. Ctrl-D, or the end of the input, ends",
      "it. Over a pipe each line is a question; answers come on standard output."
    })
final class ChatCommand implements Callable<Integer> {
  /** The JDK's line editor: history and arrow keys without a library of our own. */
  private static final String LINE_EDITOR = "jdk.internal.le";

  @Mixin ModelOptions options;
  @Mixin SamplingOptions sampling;

  @Option(
      names = "--plan",
      paramLabel = "F",
      description = "Steering plan to begin with; several act in order.")
  List<Path> plans = new ArrayList<>();

  @Option(names = "--system", paramLabel = "T", description = "System message to begin with.")
  String system;

  @Option(
      names = "--max-tokens",
      paramLabel = "N",
      defaultValue = "" + Request.MAX_TOKENS,
      description = "Most tokens of an answer (default: ${DEFAULT-VALUE}).")
  int maxTokens;

  @Override
  public Integer call() throws IOException {
    OptionValue.requireAtLeastOne("--max-tokens", maxTokens);
    Sampling sampling = this.sampling.sampling();
    try (LanguageModel model = options.open(2)) { // two answers are compared at once
      ChatSession session = new ChatSession(model, sampling, maxTokens);
      for (Path plan : plans) {
        session.load(plan);
      }
      if (system != null) {
        session.setSystem(system);
      }
      Lines lines = lines();
      String line = lines.next(session.prompt());
      while (line != null && session.hear(line)) {
        line = lines.next(session.prompt());
      }
      return 0;
    }
  }

  /** Where lines come from. */
  private interface Lines {
    /** The next line, null at the end. */
    String next(String prompt) throws IOException;
  }

  /** A terminal shows a prompt and lets its lines be edited; anything else is read as it comes. */
  private static Lines lines() {
    if (System.getProperty("jdk.console") == null) {
      System.setProperty("jdk.console", LINE_EDITOR); // where a runtime lacks it: the plain console
    }
    // None where the JDK has its plain console and standard input is no terminal.
    Optional<Console> terminal = Optional.ofNullable(System.console()).filter(Console::isTerminal);
    if (terminal.isPresent()) {
      return prompt -> edited(terminal.get(), prompt);
    }
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8.newDecoder()));
    return prompt -> {
      try {
        return in.readLine();
      } catch (CharacterCodingException e) {
        throw new IllegalArgumentException("standard input is not UTF-8: write it in UTF-8", e);
      }
    };
  }

  /** A line from the line editor; Ctrl-C takes back what was typed. */
  private static String edited(Console terminal, String prompt) {
    try {
      return terminal.readLine("%s", prompt);
    } catch (RuntimeException e) {
      if (e.getClass()
          .getSimpleName()
          .equals("UserInterruptException")) { // the JDK keeps it closed
        return "";
      }
      throw e;
    }
  }
}
