package dev.halter.cli;

import dev.halter.generation.LanguageModel;
import dev.halter.text.Message;
import dev.halter.weights.BadFileException;
import dev.halter.weights.JsonObject;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine.Option;

/** The ways to give a prompt; exactly one is used. */
final class PromptOptions {
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
      description = "JSON file with a list of {\"role\", \"content\"}, put through the template.")
  Path messages;

  /** The text that the model reads. */
  String text(LanguageModel model) {
    return prompt != null ? prompt : model.render(conversation());
  }

  int[] tokens(LanguageModel model) {
    return prompt != null ? model.encode(prompt) : model.encode(conversation());
  }

  private List<Message> conversation() {
    return ask != null ? List.of(new Message("user", ask)) : read(messages);
  }

  private static List<Message> read(Path file) {
    try {
      // The file holds the list itself.
      String json = "{\"messages\":" + Files.readString(file) + "}";
      JsonObject object = JsonObject.parse(file, json.getBytes(StandardCharsets.UTF_8));
      object.only("messages");
      return messages(object);
    } catch (java.nio.file.NoSuchFileException e) {
      throw new BadFileException(file, "no such file", e);
    } catch (IOException e) {
      throw new UncheckedIOException(file + ": cannot be read: " + e.getMessage(), e);
    }
  }

  /** The {@code messages} of an object. */
  static List<Message> messages(JsonObject json) {
    List<Message> messages = new ArrayList<>();
    for (JsonObject message : json.objects("messages")) {
      message.only("role", "content");
      messages.add(new Message(message.text("role"), message.text("content")));
    }
    if (messages.isEmpty()) {
      throw json.wrong("messages", "a list of at least one {\"role\", \"content\"}");
    }
    return messages;
  }
}
