package dev.halter.text;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import dev.halter.files.BadFileException;
import dev.halter.files.JsonFields;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CoderResult;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;

/**
 * The tokens of a {@code tokenizer.json}, each with its spelling in the file and the text it stands
 * for. Spellings differ by kind of tokenizer: byte-level ones write the bytes of a token as
 * printable characters ("Ġdog" for " dog"), SentencePiece-like ones write a space as "▁" and keep
 * 256 tokens for single bytes ({@code <0x0A>}).
 */
final class Vocabulary {
  /** Far above any published vocabulary, and small enough for arrays of that length. */
  private static final int MAX_TOKENS = 1 << 24;

  /** GPT-2's code for bytes: the byte that a character stands for, or -1. */
  private static final int[] BYTE_OF_CHARACTER = byteOfCharacter();

  private final Path file;
  private final List<String> spellings = new ArrayList<>();
  private final List<Boolean> added = new ArrayList<>();
  private boolean byteLevel;
  private boolean spaceMark;
  private boolean byteTokens;
  private Map<String, Integer> ids;

  private Vocabulary(Path file) {
    this.file = file;
  }

  /**
   * Reads {@code text}, the content of a tokenizer.json.
   *
   * @throws IllegalArgumentException if a part of it is not supported: see {@link Pipeline}
   */
  static Vocabulary read(Path file, String text) {
    Vocabulary vocabulary = new Vocabulary(file);
    JsonFields.readObject(file, text, vocabulary::field);
    return vocabulary;
  }

  /** One more than the highest token id. */
  int size() {
    return spellings.size();
  }

  private void field(String name, JsonParser json) throws IOException {
    switch (name) {
      case "added_tokens" -> addedTokens(json);
      case "model" -> JsonFields.fields(json, this::modelField);
      case "normalizer", "pre_tokenizer", "post_processor" ->
          Pipeline.check(file, name, JsonFields.tree(json));
      case "decoder" -> {
        Object decoder = JsonFields.tree(json);
        Pipeline.check(file, name, decoder);
        learnSpelling(decoder);
      }
      default -> json.skipChildren();
    }
  }

  private void modelField(String name, JsonParser json) throws IOException {
    switch (name) {
      case "vocab" ->
          JsonFields.fields(json, (spelling, id) -> put(id.getIntValue(), spelling, false));
      case "merges" -> json.skipChildren();
      default -> Pipeline.checkModel(file, name, JsonFields.tree(json));
    }
  }

  private void addedTokens(JsonParser json) throws IOException {
    if (json.currentToken() == JsonToken.START_ARRAY) {
      while (json.nextToken() != JsonToken.END_ARRAY) {
        addedToken(json);
      }
    }
  }

  private void addedToken(JsonParser json) throws IOException {
    String[] content = new String[1];
    int[] id = {-1};
    JsonFields.fields(
        json,
        (key, value) -> {
          switch (key) {
            case "id" -> id[0] = value.getIntValue();
            case "content" -> content[0] = JsonFields.string(value);
            default -> value.skipChildren();
          }
        });
    put(id[0], content[0], true);
  }

  private void put(int id, String spelling, boolean isAdded) {
    if (id < 0 || id >= MAX_TOKENS || spelling == null) {
      throw new BadFileException(file, "has a token without text or with the id " + id);
    }
    while (spellings.size() <= id) {
      spellings.add(null);
      added.add(false);
    }
    if (isAdded || !added.get(id)) {
      spellings.set(id, spelling);
      added.set(id, isAdded);
    }
  }

  /** How tokens are spelled shows in what the decoder undoes. */
  private void learnSpelling(Object decoder) {
    if (decoder instanceof Map<?, ?> map) {
      map.values().forEach(this::learnSpelling);
    } else if (decoder instanceof List<?> list) {
      list.forEach(this::learnSpelling);
    } else if (decoder instanceof String text) {
      byteLevel |= text.equals("ByteLevel");
      byteTokens |= text.equals("ByteFallback");
      spaceMark |= text.equals("▁");
    }
  }

  /** The text of one token; bytes that are no whole character show as {@code <0xE2>}. */
  String piece(int token) {
    if (token < 0) {
      throw new IllegalArgumentException("a token id cannot be negative: " + token);
    }
    String spelling = token < spellings.size() ? spellings.get(token) : null;
    if (spelling == null) {
      return "<unused " + token + ">";
    }
    if (added.get(token)) {
      return spelling;
    }
    if (byteLevel) {
      return fromByteLevel(spelling);
    }
    int value = byteValue(spelling);
    if (value >= 0) {
      return value < 0x80 ? Character.toString(value) : spelling;
    }
    return spaceMark ? spelling.replace('▁', ' ') : spelling;
  }

  /** The bytes that one token stands for; null for an id that is no token. */
  byte[] bytes(int token) {
    String spelling = token < spellings.size() ? spellings.get(token) : null;
    if (spelling == null) {
      return null;
    }
    byte[] own = added.get(token) ? null : byteLevel ? byteLevel(spelling) : null;
    int value = added.get(token) || byteLevel ? -1 : byteValue(spelling);
    return own != null
        ? own
        : value >= 0 ? new byte[] {(byte) value} : piece(token).getBytes(StandardCharsets.UTF_8);
  }

  /** The byte of a SentencePiece byte token, or -1. */
  private int byteValue(String spelling) {
    return byteTokens && spelling.matches("<0x[0-9A-F]{2}>")
        ? Integer.parseInt(spelling, 3, 5, 16)
        : -1;
  }

  /**
   * The token whose piece is {@code text}, else the one so spelled in the file. Of several the
   * lowest counts, whole characters before single bytes.
   */
  synchronized OptionalInt idOf(String text) {
    if (ids == null) {
      Map<String, Integer> found = new HashMap<>();
      Map<String, Integer> bytes = new HashMap<>();
      for (int id = 0; id < spellings.size(); id++) {
        if (spellings.get(id) != null) {
          boolean isByte = !added.get(id) && byteValue(spellings.get(id)) >= 0;
          (isByte ? bytes : found).putIfAbsent(piece(id), id);
        }
      }
      bytes.forEach(found::putIfAbsent);
      for (int id = 0; id < spellings.size(); id++) {
        if (spellings.get(id) != null) {
          found.putIfAbsent(spellings.get(id), id);
        }
      }
      ids = found;
    }
    Integer id = ids.get(text);
    return id == null ? OptionalInt.empty() : OptionalInt.of(id);
  }

  private static String fromByteLevel(String spelling) {
    byte[] bytes = byteLevel(spelling);
    return bytes == null ? spelling : text(bytes);
  }

  /** The bytes that characters of GPT-2's code stand for; null if one is none of these. */
  private static byte[] byteLevel(String spelling) {
    byte[] bytes = new byte[spelling.length()];
    for (int i = 0; i < bytes.length; i++) {
      char c = spelling.charAt(i);
      int value = c < BYTE_OF_CHARACTER.length ? BYTE_OF_CHARACTER[c] : -1;
      if (value < 0) {
        return null;
      }
      bytes[i] = (byte) value;
    }
    return bytes;
  }

  private static String text(byte[] bytes) {
    CharsetDecoder decoder = StandardCharsets.UTF_8.newDecoder();
    ByteBuffer in = ByteBuffer.wrap(bytes);
    CharBuffer out = CharBuffer.allocate(bytes.length);
    StringBuilder text = new StringBuilder();
    while (true) {
      CoderResult result = decoder.decode(in, out, true);
      text.append(out.flip());
      out.clear();
      if (result.isUnderflow()) {
        return text.toString();
      }
      for (int i = 0; i < result.length(); i++) {
        text.append(String.format("<0x%02X>", in.get() & 0xff));
      }
      decoder.reset();
    }
  }

  /**
   * Printable Latin-1 characters stand for their own byte; the other bytes, in order, have the
   * characters from U+0100 on.
   */
  private static int[] byteOfCharacter() {
    int[] bytes = new int[0x100 + 68];
    Arrays.fill(bytes, -1);
    int next = 0x100;
    for (int value = 0; value < 256; value++) {
      boolean printable =
          (value >= '!' && value <= '~') || (value >= 0xa1 && value <= 0xff && value != 0xad);
      bytes[printable ? value : next++] = value;
    }
    return bytes;
  }
}
