package dev.halter.text;

import dev.halter.files.JsonObject;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * One turn of a conversation, which a model's template sees as it is.
 *
 * @param fields {@code role}: who speaks, {@code system}, {@code user} or {@code assistant}, where
 *     a template may know more and refuses those it does not; {@code content}: what is said, a
 *     text, a list of parts {@code {"type": "text", "text"}}, or null; and what else a template may
 *     ask for
 */
public record Message(Map<String, Object> fields) {
  public Message {
    fields = Collections.unmodifiableMap(new LinkedHashMap<>(fields)); // null is a value
  }

  /** A turn of plain text. */
  public Message(String role, String content) {
    this(fields(role, content));
  }

  private static Map<String, Object> fields(String role, String content) {
    Map<String, Object> fields = new LinkedHashMap<>();
    fields.put("role", Objects.requireNonNull(role, "role"));
    fields.put("content", Objects.requireNonNull(content, "content"));
    return fields;
  }

  /**
   * The {@code messages} of an object.
   *
   * @throws dev.halter.files.BadFileException if there are none, or one has no role, no content, or
   *     a part that is no text
   */
  public static List<Message> list(JsonObject json) {
    List<Message> messages = new ArrayList<>();
    for (JsonObject message : json.objects("messages")) {
      message.text("role");
      boolean calls = message.has("tool_calls"); // what it says is left out then at times
      if (!isContent(message.value("content")) || !message.keys().contains("content") && !calls) {
        throw message.wrong("content", "a text, or a list of {\"type\": \"text\", \"text\"}");
      }
      Map<String, Object> fields = new LinkedHashMap<>();
      message.keys().forEach(key -> fields.put(key, message.value(key)));
      messages.add(new Message(fields));
    }
    if (messages.isEmpty()) {
      throw json.wrong("messages", "a list of at least one {\"role\", \"content\"}");
    }
    return messages;
  }

  private static boolean isContent(Object content) {
    return content == null
        || content instanceof String
        || content instanceof List<?> parts && parts.stream().allMatch(Message::isText);
  }

  private static boolean isText(Object part) {
    return part instanceof Map<?, ?> map
        && "text".equals(map.get("type"))
        && map.get("text") instanceof String;
  }

  public String role() {
    return (String) fields.get("role");
  }

  /** What is said, parts one after another. */
  public String content() {
    return switch (fields.get("content")) {
      case String text -> text;
      case List<?> parts -> {
        StringBuilder text = new StringBuilder();
        parts.forEach(part -> text.append(((Map<?, ?>) part).get("text")));
        yield text.toString();
      }
      case null -> "";
      default -> throw new IllegalStateException("content of another type");
    };
  }
}
