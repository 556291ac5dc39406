package dev.halter.text;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import dev.halter.files.JsonFields;
import dev.halter.files.TextFile;
import dev.halter.text.jinja.Template;
import dev.halter.text.jinja.TemplateException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.ZonedDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Supplier;

/**
 * The chat template of a model: turns a conversation into the prompt the model was trained on, as
 * transformers' {@code apply_chat_template(tokenize=False)} does, character for character.
 *
 * <p>The prompt brings the model's own special tokens, so it is to be encoded without adding any.
 */
public final class ChatTemplate {
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

  private final Template template;
  private final Map<String, String> specialTokens;
  private final Supplier<ZonedDateTime> now;

  private ChatTemplate(
      Template template, Map<String, String> specialTokens, Supplier<ZonedDateTime> now) {
    this.template = template;
    this.specialTokens = specialTokens;
    this.now = now;
  }

  /**
   * The template of the model folder {@code modelDir}: {@code chat_template.jinja} where there is
   * one, else {@code chat_template} in {@code tokenizer_config.json}, a text or a list of named
   * texts of which "default" counts.
   *
   * @throws IllegalArgumentException if the folder has none, or a file of it cannot be used
   * @throws TemplateException if the template is not valid or uses what is not supported
   */
  public static ChatTemplate load(Path modelDir) {
    Config config = Config.read(modelDir);
    Path file = modelDir.resolve("chat_template.jinja");
    String source = Files.exists(file) ? TextFile.read(file) : config.template;
    if (source == null) {
      throw new IllegalArgumentException(
          modelDir
              + ": this model has no chat template (neither chat_template.jinja nor chat_template"
              + " in tokenizer_config.json): give the prompt as plain text");
    }
    return of(source, config.specialTokens);
  }

  /**
   * A template from its source.
   *
   * @param specialTokens the tokens the template may name, such as {@code bos_token}
   * @throws TemplateException if the template is not valid or uses what is not supported
   */
  public static ChatTemplate of(String source, Map<String, String> specialTokens) {
    return of(source, specialTokens, ZonedDateTime::now);
  }

  static ChatTemplate of(
      String source, Map<String, String> specialTokens, Supplier<ZonedDateTime> now) {
    return new ChatTemplate(Template.parse(source), Map.copyOf(specialTokens), now);
  }

  /**
   * The prompt for {@code messages}.
   *
   * @param addGenerationPrompt whether to end with the opening of the assistant's next turn
   * @throws TemplateException if the template refuses the messages, with its own words
   */
  public String render(List<Message> messages, boolean addGenerationPrompt) {
    return render(messages, addGenerationPrompt, Map.of());
  }

  /**
   * As {@link #render(List, boolean)} with further variables, such as {@code enable_thinking} of
   * Qwen3 or {@code date_string} of Llama 3.2: booleans, numbers, strings, lists and maps.
   */
  public String render(
      List<Message> messages, boolean addGenerationPrompt, Map<String, ?> variables) {
    List<Object> turns = new ArrayList<>();
    messages.forEach(message -> turns.add(message.fields()));
    Map<String, Object> names = new HashMap<>(specialTokens);
    names.put("tools", null);
    names.put("documents", null);
    names.putAll(variables);
    names.put("messages", turns);
    names.put("add_generation_prompt", addGenerationPrompt);
    return template.render(names, now);
  }

  /** What the tokenizer's settings say about templates. */
  private static final class Config {
    private String template;
    private final Map<String, String> specialTokens = new HashMap<>();

    /** Tokens that tokenizer_config.json does not name come from special_tokens_map.json. */
    static Config read(Path modelDir) {
      Config config = new Config();
      for (String name : List.of("special_tokens_map.json", "tokenizer_config.json")) {
        Path file = modelDir.resolve(name);
        if (Files.exists(file)) {
          JsonFields.readObject(file, TextFile.readUnmarked(file), config::field);
        }
      }
      return config;
    }

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
