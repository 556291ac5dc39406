package dev.halter.serving;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Supplier;

/**
 * The fields of a request's body. Each has its type and its range: what is none is a 400 that names
 * the field. Fields that nobody has asked for are {@link #unknown()}.
 */
final class Fields {
  /** How errors call a body, which is no file. */
  static final Path BODY = Path.of("body");

  private final JsonObject json;
  private final Set<String> asked = new HashSet<>();

  private Fields(JsonObject json) {
    this.json = json;
  }

  static Fields parse(byte[] body) {
    return new Fields(read(null, () -> JsonObject.parse(BODY, body)));
  }

  /** Those of a body that has been parsed, such as a part of a line. */
  static Fields of(JsonObject body) {
    return new Fields(body.apart(BODY));
  }

  /** What {@code reader} makes of JSON, and its complaint as one about a field. */
  static <T> T read(String field, Supplier<T> reader) {
    try {
      return reader.get();
    } catch (BadFileException e) {
      String message = e.getMessage();
      String start = BODY + ": ";
      throw ApiError.badRequest(
          field, message.startsWith(start) ? message.substring(start.length()) : message);
    }
  }

  private JsonObject ask(String field) {
    asked.add(field);
    return json;
  }

  boolean has(String field) {
    return ask(field).has(field);
  }

  /** The value as parsed, or null. */
  Object value(String field) {
    return ask(field).value(field);
  }

  boolean flag(String field, boolean otherwise) {
    return read(field, () -> ask(field).flag(field, otherwise));
  }

  int integer(String field, int min, int max, int otherwise) {
    return read(field, () -> ask(field).integer(field, min, max, otherwise));
  }

  /** Whole numbers that JSON and Java both keep exactly, longs included. */
  long seed(String field, long otherwise) {
    return switch (value(field)) {
      case null -> otherwise;
      case Integer number -> number;
      case Long number -> number;
      default -> throw wrong(field, "an integer of 64 bits");
    };
  }

  float number(String field, double min, double max, double otherwise) {
    return (float) (double) read(field, () -> ask(field).number(field, min, max, otherwise));
  }

  String text(String field, String otherwise) {
    return read(field, () -> ask(field).text(field, otherwise));
  }

  /** A text or a list of texts; empty when absent. */
  List<String> texts(String field) {
    if (value(field) instanceof String text) {
      return List.of(text);
    }
    return read(field, () -> json.texts(field));
  }

  /** The constant of an enum whose name in lower case the field holds. */
  <E extends Enum<E>> E constant(String field, Class<E> type, E otherwise) {
    String name = text(field, null);
    if (name == null) {
      return otherwise;
    }
    List<String> names = new ArrayList<>();
    for (E constant : type.getEnumConstants()) {
      names.add(constant.name().toLowerCase(Locale.ROOT));
      if (names.getLast().equals(name)) {
        return constant;
      }
    }
    throw wrong(field, "one of " + String.join(", ", names));
  }

  /** A list of ids of tokens below {@code vocabulary}; empty when absent. */
  List<Integer> tokens(String field, int vocabulary) {
    return switch (value(field)) {
      case null -> List.of();
      case List<?> items -> tokens(field, items, vocabulary);
      default -> throw wrong(field, "a list of ids of tokens");
    };
  }

  /** The same of a list that the field holds. */
  List<Integer> tokens(String field, List<?> items, int vocabulary) {
    List<Integer> ids = new ArrayList<>(items.size());
    for (Object item : items) {
      if (!(item instanceof Integer id) || id < 0 || id >= vocabulary) {
        throw ApiError.badRequest(
            field,
            "\"%s\" holds %s, but ids of tokens are 0 to %,d"
                .formatted(field, Text.line(String.valueOf(item)), vocabulary - 1));
      }
      ids.add(id);
    }
    return ids;
  }

  /** An object; its own fields are asked for by who reads it. */
  JsonObject object(String field) {
    return read(field, () -> ask(field).object(field));
  }

  /** All of it, where one of the fields is read by somebody else. */
  JsonObject reading(String field) {
    return ask(field);
  }

  ApiError wrong(String field, String wanted) {
    return read(field, () -> refused(field, wanted));
  }

  private ApiError refused(String field, String wanted) {
    throw json.wrong(field, wanted);
  }

  /** Refuses what nobody has asked for, where the interface is our own. */
  void refuseUnknown() {
    for (String field : unknown()) {
      throw ApiError.badRequest(
          field,
          "\"%s\" means nothing here: known are %s"
              .formatted(Text.line(field), String.join(", ", new TreeSet<>(asked))));
    }
  }

  /** What is there and nobody has asked for. */
  List<String> unknown() {
    return json.keys().stream().filter(key -> !asked.contains(key)).toList();
  }
}
