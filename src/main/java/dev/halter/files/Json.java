package dev.halter.files;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.SerializableString;
import com.fasterxml.jackson.core.io.CharacterEscapes;
import com.fasterxml.jackson.core.io.SerializedString;
import java.io.IOException;
import java.io.OutputStream;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * JSON going out, from maps, lists, arrays and values. It is one line to every reader of lines:
 * U+2028 and U+2029 end none in JSON, but do for many programs, so they are written as escapes.
 */
public final class Json {
  private static final JsonFactory FACTORY =
      new JsonFactoryBuilder().characterEscapes(new Separators()).build();

  private Json() {}

  /** An object with keys in the order given: key, value, key, value. */
  public static Map<String, Object> object(Object... keysAndValues) {
    Map<String, Object> object = new LinkedHashMap<>();
    for (int i = 0; i < keysAndValues.length; i += 2) {
      object.put((String) keysAndValues[i], keysAndValues[i + 1]);
    }
    return object;
  }

  /** A document as one line. NaN and the infinities, which JSON has not, become null. */
  public static String text(Object document) {
    StringWriter text = new StringWriter();
    try (JsonGenerator json = to(text)) {
      write(json, document);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return text.toString();
  }

  /** Writes to {@code out} piece by piece, for what is too large to be a document first. */
  public static JsonGenerator to(Writer out) throws IOException {
    return FACTORY.createGenerator(out);
  }

  /** As {@link #to(Writer)}, in UTF-8; a key that comes twice is an error. */
  public static JsonGenerator to(OutputStream out) throws IOException {
    return FACTORY.createGenerator(out).enable(JsonGenerator.Feature.STRICT_DUPLICATE_DETECTION);
  }

  private static void write(JsonGenerator json, Object value) throws IOException {
    switch (value) {
      case null -> json.writeNull();
      case String text -> json.writeString(text);
      case Boolean flag -> json.writeBoolean(flag);
      case Integer number -> json.writeNumber(number);
      case Long number -> json.writeNumber(number);
      case Float number -> writeFinite(json, number, number.toString());
      case Double number -> writeFinite(json, number, number.toString());
      case int[] numbers -> json.writeArray(numbers, 0, numbers.length);
      case double[] numbers -> json.writeArray(numbers, 0, numbers.length);
      case Map<?, ?> object -> {
        json.writeStartObject();
        for (Map.Entry<?, ?> entry : object.entrySet()) {
          json.writeFieldName((String) entry.getKey());
          write(json, entry.getValue());
        }
        json.writeEndObject();
      }
      case Iterable<?> list -> {
        json.writeStartArray();
        for (Object item : list) {
          write(json, item);
        }
        json.writeEndArray();
      }
      default -> throw new IllegalArgumentException("no JSON for " + value.getClass());
    }
  }

  /** JSON has no NaN and no infinity. */
  private static void writeFinite(JsonGenerator json, double value, String text)
      throws IOException {
    if (Double.isFinite(value)) {
      json.writeNumber(text);
    } else {
      json.writeNull();
    }
  }

  private static final class Separators extends CharacterEscapes {
    private static final long serialVersionUID = 1L;

    @Override
    public int[] getEscapeCodesForAscii() {
      return standardAsciiEscapesForJSON();
    }

    @Override
    public SerializableString getEscapeSequence(int c) {
      return c == 0x2028 || c == 0x2029
          ? new SerializedString("\\u" + Integer.toHexString(c))
          : null;
    }
  }
}
