package dev.halter.text;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import dev.halter.output.Reason;
import dev.halter.weights.JsonFault;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Reads the text files of a model folder as hostile input: bounded, UTF-8, with clear errors. */
final class TextFile {
  /** Five times the largest published tokenizer.json. */
  private static final int MAX_BYTES = 192 << 20;

  private static final JsonFactory JSON =
      JsonFactory.builder()
          .streamReadConstraints(
              StreamReadConstraints.builder().maxNestingDepth(64).maxStringLength(4 << 20).build())
          .disable(JsonFactory.Feature.CANONICALIZE_FIELD_NAMES)
          .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
          .build();

  private TextFile() {}

  static String read(Path file) {
    try {
      long size = Files.size(file);
      if (size > MAX_BYTES) {
        throw unusable(
            file, "has " + size + " bytes, more than the " + MAX_BYTES + " allowed", null);
      }
      String text =
          StandardCharsets.UTF_8
              .newDecoder()
              .decode(ByteBuffer.wrap(Files.readAllBytes(file)))
              .toString();
      // A byte order mark is no part of JSON; in a template it would be, as in transformers.
      boolean marked = text.startsWith("\uFEFF") && file.toString().endsWith(".json");
      return marked ? text.substring(1) : text;
    } catch (CharacterCodingException e) {
      throw unusable(file, "is not UTF-8 text", e);
    } catch (IOException e) {
      throw unusable(file, "cannot be read: " + Reason.of(e), e);
    }
  }

  /** What to do with the value of one field: {@code json} stands on its first token. */
  @FunctionalInterface
  interface FieldReader {
    void read(String name, JsonParser json) throws IOException;
  }

  /** Gives each field of the object in {@code file}, whose content is {@code text}, to reader. */
  static void readObject(Path file, String text, FieldReader reader) {
    try (JsonParser json = JSON.createParser(text)) {
      json.nextToken();
      fields(json, reader);
    } catch (JsonProcessingException e) {
      throw unusable(file, "is not the JSON expected here: " + JsonFault.of(e), e);
    } catch (IOException e) {
      throw unusable(file, "cannot be read: " + Reason.of(e), e);
    }
  }

  /** Gives each field of the object that {@code json} stands on to {@code reader}. */
  static void fields(JsonParser json, FieldReader reader) throws IOException {
    if (json.currentToken() != JsonToken.START_OBJECT) {
      throw JsonFault.expected(json, "an object");
    }
    while (json.nextToken() != JsonToken.END_OBJECT) {
      String name = json.currentName();
      if (name == null) {
        throw JsonFault.expected(json, "a field");
      }
      json.nextToken();
      reader.read(name, json);
    }
  }

  /** The string that {@code json} stands on. */
  static String string(JsonParser json) throws IOException {
    if (json.currentToken() != JsonToken.VALUE_STRING) {
      throw JsonFault.expected(json, "a string");
    }
    return json.getText();
  }

  /** The value that {@code json} stands on, as maps, lists, strings, numbers, booleans and null. */
  static Object tree(JsonParser json) throws IOException {
    return switch (json.currentToken()) {
      case START_OBJECT -> {
        Map<String, Object> map = new LinkedHashMap<>();
        fields(json, (name, value) -> map.put(name, tree(value)));
        yield map;
      }
      case START_ARRAY -> {
        List<Object> list = new ArrayList<>();
        while (json.nextToken() != JsonToken.END_ARRAY) {
          list.add(tree(json));
        }
        yield list;
      }
      case VALUE_STRING -> json.getText();
      case VALUE_TRUE -> true;
      case VALUE_FALSE -> false;
      case VALUE_NULL -> null;
      default -> json.getNumberValue();
    };
  }

  static IllegalArgumentException unusable(Path file, String problem, Throwable cause) {
    // Parts of a hostile file may be in the message: they must not break its one line.
    String line =
        problem.substring(0, Math.min(problem.length(), 500)).replaceAll("\\p{Cntrl}", " ");
    return new IllegalArgumentException(file + ": " + line, cause);
  }
}
