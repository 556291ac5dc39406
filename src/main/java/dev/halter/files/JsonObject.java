package dev.halter.files;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A JSON object of a model folder, a plan or an input line with typed access; every error names the
 * file and the key. It reads with jackson-core alone, since loading databind would double the
 * start-up of the program.
 *
 * <p>A key that is absent and a key that is {@code null} are the same, as for transformers.
 */
public final class JsonObject {
  /**
   * Duplicate keys are refused: readers disagree about which of the two counts. Keys are not pooled
   * either, as a hostile file may choose them to collide.
   */
  private static final JsonFactory STRICT =
      JsonFactory.builder()
          .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
          .disable(JsonFactory.Feature.CANONICALIZE_FIELD_NAMES)
          .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
          .build();

  private static final int MAX_BYTES = 16 << 20;
  private static final int MAX_DEPTH = 64;

  private final Path file;
  private final String prefix;
  private final Map<String, Object> values;

  private JsonObject(Path file, String prefix, Map<String, Object> values) {
    this.file = file;
    this.prefix = prefix;
    this.values = values;
  }

  public static JsonObject read(Path file) {
    return parse(file, MappedFile.read(file, MAX_BYTES));
  }

  /**
   * Reads a file of one object a line; blank lines are skipped.
   *
   * @throws BadFileException naming the line, or the file if it has no object
   */
  public static List<JsonObject> readLines(Path file) {
    List<JsonObject> objects = new ArrayList<>();
    int number = 0;
    try {
      // Bytes are kept as they are until a line is parsed, so that one that is not UTF-8 is named.
      for (String line : Files.readAllLines(file, StandardCharsets.ISO_8859_1)) {
        number++;
        if (!line.isBlank()) {
          byte[] json = line.getBytes(StandardCharsets.ISO_8859_1);
          objects.add(parse(Path.of(file + ", line " + number), json));
        }
      }
    } catch (NoSuchFileException e) {
      throw new BadFileException(file, "no such file", e);
    } catch (IOException e) {
      throw new BadFileException(file, "cannot be read: " + Reason.of(e), e);
    }
    if (objects.isEmpty()) {
      throw new BadFileException(file, "is empty: it needs one JSON object a line");
    }
    return objects;
  }

  /**
   * Reads a file that is a list of objects.
   *
   * @throws BadFileException if it is something else
   */
  public static List<JsonObject> readList(Path file) {
    // As the one value of an object, so that errors name the place in the list.
    JsonObject object = parseList(file, "item", MappedFile.read(file, MAX_BYTES));
    return object.objects("item");
  }

  /** A list as the one value of an object, by the key {@code name}. */
  public static JsonObject parseList(Path file, String name, byte[] json) {
    byte[] list = withoutMark(json);
    byte[] before = ("{\"" + name + "\":").getBytes(StandardCharsets.UTF_8);
    byte[] all = Arrays.copyOf(before, before.length + list.length + 1);
    System.arraycopy(list, 0, all, before.length, list.length);
    all[all.length - 1] = '}';
    JsonObject object = parse(file, all);
    object.only(name);
    return object;
  }

  /** Editors and shells of some systems begin a UTF-8 text with U+FEFF. */
  private static byte[] withoutMark(byte[] text) {
    boolean marked =
        text.length >= 3
            && text[0] == (byte) 0xEF
            && text[1] == (byte) 0xBB
            && text[2] == (byte) 0xBF;
    return marked ? Arrays.copyOfRange(text, 3, text.length) : text;
  }

  /**
   * A strict parser of UTF-8 text.
   *
   * @throws BadFileException if the bytes are not UTF-8
   */
  public static JsonParser parser(Path file, byte[] json) throws IOException {
    try {
      CharBuffer text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(json));
      return STRICT.createParser(text.array(), 0, text.limit());
    } catch (CharacterCodingException e) {
      throw new BadFileException(file, "is not valid JSON: its text is not UTF-8", e);
    }
  }

  /**
   * Parses {@code json}, after a byte order mark if there is one; {@code file} is for error
   * messages only.
   */
  public static JsonObject parse(Path file, byte[] json) {
    try (JsonParser parser = parser(file, withoutMark(json))) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        throw new BadFileException(file, "is not a JSON object");
      }
      Map<String, Object> values = object(file, parser, 1);
      if (parser.nextToken() != null) {
        throw new BadFileException(file, "has text after its JSON object");
      }
      return new JsonObject(file, "", values);
    } catch (JsonProcessingException e) {
      throw new BadFileException(file, "is not valid JSON: " + JsonFault.of(e), e);
    } catch (IOException e) {
      throw MappedFile.cannotRead(file, e);
    }
  }

  private static Map<String, Object> object(Path file, JsonParser parser, int depth)
      throws IOException {
    Map<String, Object> values = new LinkedHashMap<>();
    while (parser.nextToken() != JsonToken.END_OBJECT) {
      String key = parser.currentName();
      parser.nextToken();
      values.put(key, value(file, parser, depth));
    }
    return values;
  }

  private static Object value(Path file, JsonParser parser, int depth) throws IOException {
    if (depth > MAX_DEPTH) {
      throw new BadFileException(file, "is nested more than " + MAX_DEPTH + " levels deep");
    }
    return switch (parser.currentToken()) {
      case START_OBJECT -> object(file, parser, depth + 1);
      case START_ARRAY -> {
        List<Object> items = new ArrayList<>();
        while (parser.nextToken() != JsonToken.END_ARRAY) {
          items.add(value(file, parser, depth + 1));
        }
        yield items;
      }
      case VALUE_STRING -> parser.getText();
      case VALUE_NUMBER_INT -> parser.getNumberValue();
      case VALUE_NUMBER_FLOAT -> parser.getDoubleValue();
      case VALUE_TRUE -> true;
      case VALUE_FALSE -> false;
      case VALUE_NULL -> null;
      default -> throw new BadFileException(file, "is not valid JSON");
    };
  }

  public Path file() {
    return file;
  }

  public Set<String> keys() {
    return values.keySet();
  }

  public boolean has(String key) {
    return values.get(key) != null;
  }

  /** The same as an object of its own, whatever it was a part of. */
  public JsonObject apart(Path from) {
    return new JsonObject(from, "", values);
  }

  /** The key with the path to it, for messages: {@code rope_scaling.factor}. */
  public String path(String key) {
    return prefix + key;
  }

  public String text(String key) {
    if (values.get(key) instanceof String text) {
      return text;
    }
    throw wrong(key, "a string");
  }

  public String text(String key, String otherwise) {
    return has(key) ? text(key) : otherwise;
  }

  /**
   * The file that a text names.
   *
   * @throws BadFileException if it is none of these
   */
  public Path path(String key, NamedFiles files) {
    try {
      return files.find(text(key));
    } catch (InvalidPathException e) {
      throw wrong(key, "the name of a file: " + e.getReason());
    } catch (BadFileException e) {
      throw e;
    } catch (IllegalArgumentException e) {
      throw new BadFileException(file, "\"" + path(key) + "\": " + e.getMessage(), e);
    }
  }

  public boolean flag(String key, boolean otherwise) {
    return switch (values.get(key)) {
      case null -> otherwise;
      case Boolean flag -> flag;
      default -> throw wrong(key, "true or false");
    };
  }

  /** An integer in {@code [min, max]}; required. */
  public int integer(String key, int min, int max) {
    return integer(key, values.get(key), min, max);
  }

  public int integer(String key, int min, int max, int otherwise) {
    return has(key) ? integer(key, min, max) : otherwise;
  }

  private int integer(String key, Object value, int min, int max) {
    // Some writers give whole numbers as 4096.0.
    boolean whole =
        value instanceof Integer
            || value instanceof Long
            || value instanceof Double d && d == Math.rint(d);
    if (!whole || ((Number) value).doubleValue() < min || ((Number) value).doubleValue() > max) {
      throw wrong(key, "an integer from " + min + " to " + max);
    }
    return ((Number) value).intValue();
  }

  /** A finite number in {@code [min, max]}; required. */
  public double number(String key, double min, double max) {
    if (values.get(key) instanceof Number number
        && number.doubleValue() >= min
        && number.doubleValue() <= max) {
      return number.doubleValue();
    }
    throw wrong(key, "a number from " + min + " to " + max);
  }

  public double number(String key, double min, double max, double otherwise) {
    return has(key) ? number(key, min, max) : otherwise;
  }

  public JsonObject object(String key) {
    if (values.get(key) instanceof Map<?, ?> map) {
      @SuppressWarnings("unchecked") // object() makes no other maps
      Map<String, Object> typed = (Map<String, Object>) map;
      return new JsonObject(file, prefix + key + ".", typed);
    }
    throw wrong(key, "an object");
  }

  /** A list of objects; empty when absent. */
  public List<JsonObject> objects(String key) {
    if (!has(key)) {
      return List.of();
    }
    if (!(values.get(key) instanceof List<?> items)) {
      throw wrong(key, "a list of objects");
    }
    List<JsonObject> objects = new ArrayList<>();
    for (Object item : items) {
      if (!(item instanceof Map<?, ?> map)) {
        throw wrong(key, "a list of objects");
      }
      @SuppressWarnings("unchecked") // object() makes no other maps
      Map<String, Object> typed = (Map<String, Object>) map;
      objects.add(new JsonObject(file, prefix + key + "[" + objects.size() + "].", typed));
    }
    return objects;
  }

  /**
   * Refuses every key but these.
   *
   * @throws BadFileException naming the first unknown key and what is known
   */
  public void only(String... known) {
    for (String key : keys()) {
      if (!List.of(known).contains(key)) {
        throw new BadFileException(
            file,
            "has an unknown key \"" + path(key) + "\"; known are " + String.join(", ", known));
      }
    }
  }

  /** The same object without a key. */
  public JsonObject without(String key) {
    Map<String, Object> rest = new LinkedHashMap<>(values);
    rest.remove(key);
    return new JsonObject(file, prefix, rest);
  }

  /** The same object, in which what it leaves out is as these say. */
  public JsonObject withDefaults(Map<String, Object> otherwise) {
    Map<String, Object> all = new LinkedHashMap<>(otherwise);
    values.forEach(
        (key, value) -> {
          if (value != null) {
            all.put(key, value);
          }
        });
    return new JsonObject(file, prefix, all);
  }

  /** The value as parsed: text, number, boolean, list, map, or null when absent. */
  public Object value(String key) {
    return values.get(key);
  }

  /** All values as parsed, by their keys. */
  public Map<String, Object> values() {
    return Collections.unmodifiableMap(values);
  }

  /** A list of strings; empty when absent. */
  public List<String> texts(String key) {
    if (!has(key)) {
      return List.of();
    }
    if (values.get(key) instanceof List<?> items
        && items.stream().allMatch(String.class::isInstance)) {
      return items.stream().map(String.class::cast).toList();
    }
    throw wrong(key, "a list of strings");
  }

  /** An integer or a list of integers, each at least 0; empty when absent. */
  public List<Integer> integers(String key) {
    return switch (values.get(key)) {
      case null -> List.of();
      case List<?> items -> items.stream().map(item -> itemOf(key, item)).toList();
      case Object item -> List.of(integer(key, item, 0, Integer.MAX_VALUE));
    };
  }

  private int itemOf(String key, Object item) {
    if (item instanceof Number number
        && number.doubleValue() == Math.rint(number.doubleValue())
        && number.doubleValue() >= 0
        && number.doubleValue() <= Integer.MAX_VALUE) {
      return number.intValue();
    }
    throw new BadFileException(
        file, "\"" + path(key) + "\" holds " + brief(item) + ", but must hold integers from 0");
  }

  /** Other values in the same place: what a spelling stands for. */
  public JsonObject as(Map<String, Object> others) {
    return new JsonObject(file, prefix, others);
  }

  public BadFileException wrong(String key, String wanted) {
    Object value = values.get(key);
    return new BadFileException(
        file,
        value == null
            ? "has no \"" + path(key) + "\" (it must be " + wanted + ")"
            : "\"" + path(key) + "\" is " + brief(value) + ", but must be " + wanted);
  }

  private static String brief(Object value) {
    return switch (value) {
      case null -> "null";
      case String text -> "\"" + shortened(text) + "\"";
      case Map<?, ?> map -> "an object";
      case List<?> list -> "a list";
      default -> shortened(value.toString());
    };
  }

  private static String shortened(String text) {
    return text.length() > 60 ? text.substring(0, 60) + "…" : text;
  }
}
