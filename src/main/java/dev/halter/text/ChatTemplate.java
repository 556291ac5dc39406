package dev.halter.text;

import dev.halter.text.jinja.Template;
import dev.halter.text.jinja.TemplateException;
import java.nio.file.Path;
import java.time.ZonedDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;

/**
 * The chat template of a model: turns a conversation into the prompt the model was trained on, as
 * transformers' {@code apply_chat_template(tokenize=False)} does, character for character.
 *
 * <p>The prompt brings the model's own special tokens, so it is to be encoded without adding any.
 */
public final class ChatTemplate {
  /** Stands for the end of what is said, to find it in the prompt. */
  private static final String END = "CONTINUE_FINAL_MESSAGE_TAG";

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
   * The template of the model folder {@code modelDir}: {@link TokenizerConfig#chatTemplate}.
   *
   * @throws IllegalArgumentException if the folder has none, or a file of it cannot be used
   * @throws TemplateException if the template is not valid or uses what is not supported
   */
  public static ChatTemplate load(Path modelDir) {
    TokenizerConfig config = TokenizerConfig.read(modelDir);
    String source = config.chatTemplate();
    if (source == null) {
      throw new IllegalArgumentException(
          modelDir
              + ": this model has no chat template (neither chat_template.jinja nor chat_template"
              + " in tokenizer_config.json): give the prompt as plain text");
    }
    return of(source, config.specialTokens());
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

  /**
   * The prompt for messages of which the last is to be gone on with: it ends where the last one's
   * text does, as with transformers' {@code continue_final_message}.
   *
   * @throws IllegalArgumentException if the template leaves out what is said last, or changes it
   */
  public String renderOpen(List<Message> messages, Map<String, ?> variables) {
    Message last = messages.getLast();
    Map<String, Object> fields = new HashMap<>(last.fields());
    // A template that trims what is said takes the blank away too.
    fields.put("content", last.content() + END + " ");
    List<Message> marked = new ArrayList<>(messages.subList(0, messages.size() - 1));
    marked.add(new Message(fields));
    String prompt = render(marked, false, variables);
    int end = prompt.lastIndexOf(END);
    if (end < 0) {
      throw new IllegalArgumentException(
          "the chat template leaves out what is said last, so it cannot be gone on with");
    }
    String open = prompt.substring(0, end);
    return prompt.startsWith(END + " ", end) ? open : open.stripTrailing();
  }
}
