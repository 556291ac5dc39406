package dev.halter.cli;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.files.Reason;
import dev.halter.generation.LanguageModel;
import dev.halter.text.Message;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import picocli.CommandLine.Option;

/** The ways to give a prompt; exactly one is used. */
public final class PromptOptions {
  @Option(
      names = "--prompt",
      paramLabel = "T",
      required = true,
      description = "Plain text to go on from.")
  String prompt;

  @Option(
      names = "--ask",
      paramLabel = "T",
      required = true,
      description = "One user message, put through the model's chat template.")
  String ask;

  @Option(
      names = "--messages",
      paramLabel = "F",
      required = true,
      description =
          "JSON file with a list of {\"role\", \"content\"}, put through the template; further keys"
              + " go to it too.")
  Path messages;

  /** The text that the model reads. */
  public String text(LanguageModel model) {
    return prompt != null ? prompt : model.render(conversation());
  }

  /** What to show of it: a plain text, or what was said last. */
  String title() {
    if (prompt != null) {
      return prompt;
    }
    return conversation().getLast().fields().get("content") instanceof String said
        ? said
        : messages.toString();
  }

  public int[] tokens(LanguageModel model) {
    return prompt != null ? model.encode(prompt) : model.encode(conversation());
  }

  /** Refuses a file of messages that is none, before any work is done. */
  public void check() {
    if (messages != null) {
      read(messages);
    }
  }

  private List<Message> conversation() {
    return ask != null ? List.of(new Message("user", ask)) : read(messages);
  }

  private static List<Message> read(Path file) {
    try {
      return Message.list(JsonObject.parseList(file, "messages", Files.readAllBytes(file)));
    } catch (java.nio.file.NoSuchFileException e) {
      throw new BadFileException(file, "no such file", e);
    } catch (IOException e) {
      throw new UncheckedIOException(file + ": cannot be read: " + Reason.of(e), e);
    }
  }
}
