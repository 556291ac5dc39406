package dev.halter.text;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

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
      return StandardCharsets.UTF_8
          .newDecoder()
          .decode(ByteBuffer.wrap(Files.readAllBytes(file)))
          .toString();
    } catch (CharacterCodingException e) {
      throw unusable(file, "is not UTF-8 text", e);
    } catch (IOException e) {
      throw unusable(file, "cannot be read: " + e, e);
    }
  }

  /** What to do with the value of one field: {@code json} stands on its first token. */
  @FunctionalInterface
  interface FieldReader {
    void read(String name, JsonParser json) throws IOException;
  }

  /** Gives each field of the object in {@code file} to {@code reader}. */
  static void readObject(Path file, FieldReader reader) {
    try (JsonParser json = JSON.createParser(read(file))) {
      json.nextToken();
      fields(json, reader);
    } catch (JsonProcessingException e) {
      throw unusable(file, "is not the JSON expected here: " + e.getOriginalMessage(), e);
    } catch (IOException e) {
      throw unusable(file, "cannot be read: " + e, e);
    }
  }

  /** Gives each field of the object that {@code json} stands on to {@code reader}. */
  static void fields(JsonParser json, FieldReader reader) throws IOException {
    if (json.currentToken() != JsonToken.START_OBJECT) {
      throw new com.fasterxml.jackson.core.JsonParseException(json, "an object was expected");
    }
    while (json.nextToken() != JsonToken.END_OBJECT) {
      String name = json.currentName();
      json.nextToken();
      reader.read(name, json);
    }
  }

  static IllegalArgumentException unusable(Path file, String problem, Throwable cause) {
    return new IllegalArgumentException(file + ": " + problem, cause);
  }
}
