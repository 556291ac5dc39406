package dev.halter.files;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JSON coming in field by field, for files like tokenizer.json that hold megabytes of which a
 * reader wants little. Everything smaller is a {@link JsonObject}.
 */
public final class JsonFields {
  private static final JsonFactory JSON =
      JsonFactory.builder()
          .streamReadConstraints(
              StreamReadConstraints.builder().maxNestingDepth(64).maxStringLength(4 << 20).build())
          .disable(JsonFactory.Feature.CANONICALIZE_FIELD_NAMES)
          .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
          .build();

  private JsonFields() {}

  /** What to do with the value of one field: {@code json} stands on its first token. */
  @FunctionalInterface
  public interface FieldReader {
    void read(String name, JsonParser json) throws IOException;
  }

  /** Gives each field of the object in {@code file}, whose content is {@code text}, to reader. */
  public static void readObject(Path file, String text, FieldReader reader) {
    try (JsonParser json = JSON.createParser(text)) {
      json.nextToken();
      fields(json, reader);
    } catch (JsonProcessingException e) {
      throw new BadFileException(file, "is not the JSON expected here: " + JsonFault.of(e), e);
    } catch (IOException e) {
      throw MappedFile.cannotRead(file, e);
    }
  }

  /** Gives each field of the object that {@code json} stands on to {@code reader}. */
  public static void fields(JsonParser json, FieldReader reader) throws IOException {
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
  public static String string(JsonParser json) throws IOException {
    if (json.currentToken() != JsonToken.VALUE_STRING) {
      throw JsonFault.expected(json, "a string");
    }
    return json.getText();
  }

  /** The value that {@code json} stands on, as maps, lists, strings, numbers, booleans and null. */
  public static Object tree(JsonParser json) throws IOException {
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
}
