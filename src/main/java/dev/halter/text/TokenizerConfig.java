package dev.halter.text;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import dev.halter.files.JsonFields;
import dev.halter.files.TextFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * What the settings of a tokenizer say beside {@code tokenizer.json}.
 *
 * @param chatTemplate the source of the chat template: {@code chat_template.jinja} where there is
 *     one, else {@code chat_template} in {@code tokenizer_config.json}, a text or a list of named
 *     texts of which "default" counts; null where there is none
 * @param specialTokens the named tokens, such as {@code bos_token}: those that {@code
 *     tokenizer_config.json} does not name come from {@code special_tokens_map.json}
 */
public record TokenizerConfig(String chatTemplate, Map<String, String> specialTokens) {
  /** The named tokens that transformers hands to a template. */
  private static final Set<String> SPECIAL_TOKENS =
      Set.of(
          "bos_token",
          "eos_token",
          "unk_token",
          "sep_token",
          "pad_token",
          "cls_token",
          "mask_token");

  public TokenizerConfig {
    specialTokens = Map.copyOf(specialTokens);
  }

  /**
   * The settings of a model folder, whatever of them it has.
   *
   * @throws dev.halter.files.BadFileException if a file of it cannot be used
   */
  public static TokenizerConfig read(Path modelDir) {
    Reader reader = new Reader();
    for (String name : List.of("special_tokens_map.json", "tokenizer_config.json")) {
      Path file = modelDir.resolve(name);
      if (Files.exists(file)) {
        JsonFields.readObject(file, TextFile.readUnmarked(file), reader::field);
      }
    }
    Path file = modelDir.resolve("chat_template.jinja");
    return new TokenizerConfig(
        Files.exists(file) ? TextFile.read(file) : reader.template, reader.specialTokens);
  }

  private static final class Reader {
    private String template;
    private final Map<String, String> specialTokens = new HashMap<>();

    private void field(String name, JsonParser json) throws IOException {
      if (name.equals("chat_template")) {
        template(json);
      } else if (SPECIAL_TOKENS.contains(name)) {
        specialToken(name, json);
      } else {
        json.skipChildren();
      }
    }

    private void template(JsonParser json) throws IOException {
      if (json.currentToken() != JsonToken.START_ARRAY) {
        template = text(json);
        return;
      }
      while (json.nextToken() != JsonToken.END_ARRAY) {
        Map<String, String> named = new HashMap<>();
        JsonFields.fields(json, (name, value) -> named.put(name, text(value)));
        if ("default".equals(named.get("name"))) {
          template = named.get("template");
        }
      }
    }

    /** A token is a text, or an object whose {@code content} is the text. */
    private void specialToken(String token, JsonParser json) throws IOException {
      if (json.currentToken() != JsonToken.START_OBJECT) {
        put(token, text(json));
        return;
      }
      JsonFields.fields(
          json,
          (name, value) -> {
            String text = text(value);
            if (name.equals("content")) {
              put(token, text);
            }
          });
    }

    private void put(String token, String text) {
      if (text != null) {
        specialTokens.put(token, text);
      }
    }

    /** The text that {@code json} stands on, or null for any other value. */
    private static String text(JsonParser json) throws IOException {
      json.skipChildren();
      return json.currentToken() == JsonToken.VALUE_STRING ? json.getText() : null;
    }
  }
}
