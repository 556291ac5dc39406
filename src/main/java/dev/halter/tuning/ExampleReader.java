package dev.halter.tuning;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.text.ChatTemplate;
import dev.halter.text.Message;
import dev.halter.text.Tokenizer;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;

/** Makes an {@link Example} of a line of {@link TuningData}. */
final class ExampleReader implements AutoCloseable {
  private final Path model;
  private final ModelConfig config;
  private final int maxTokens;
  private Tokenizer tokenizer; // once it is needed
  private ChatTemplate template; // likewise

  /**
   * For a model.
   *
   * @param model folder, for its tokenizer and chat template
   * @param maxTokens most tokens of a prompt and its completion together
   */
  ExampleReader(Path model, ModelConfig config, int maxTokens) {
    this.model = model;
    this.config = config;
    this.maxTokens = maxTokens;
  }

  /**
   * Reads a line.
   *
   * @throws BadFileException naming it, if it cannot be used
   */
  Example read(JsonObject line) {
    Example example;
    if (line.has("prompt_tokens")) {
      line.only("id", "prompt_tokens", "completion_tokens");
      example = join(line, tokens(line, "prompt_tokens"), tokens(line, "completion_tokens"));
    } else if (line.has("messages")) {
      line.only("id", "messages");
      example = conversation(line, Message.list(line));
    } else if (line.has("instruction")) {
      line.only("id", "instruction", "input", "output", "text");
      String input = line.text("input", "");
      String asked = line.text("instruction") + (input.isEmpty() ? "" : "\n\n" + input);
      example =
          conversation(
              line,
              List.of(new Message("user", asked), new Message("assistant", line.text("output"))));
    } else {
      line.only("id", "prompt", "completion");
      example = plain(line, line.text("prompt"), line.text("completion"));
    }
    if (example.tokens().length > maxTokens) {
      throw new BadFileException(
          line.file(),
          "has %,d tokens: raise --max-seq-len, which is %,d, or shorten it"
              .formatted(example.tokens().length, maxTokens));
    }
    return example;
  }

  private int[] tokens(JsonObject line, String key) {
    int[] tokens = line.integers(key).stream().mapToInt(Integer::intValue).toArray();
    for (int token : tokens) {
      if (token < 0 || token >= config.vocabularySize()) {
        throw line.wrong(key, "a list of tokens from 0 to " + (config.vocabularySize() - 1));
      }
    }
    return tokens;
  }

  private static Example join(JsonObject line, int[] prompt, int[] completion) {
    if (prompt.length == 0) {
      throw line.wrong("prompt_tokens", "a list of at least one token");
    }
    if (completion.length == 0) {
      throw line.wrong("completion_tokens", "a list of at least one token");
    }
    int[] all = Arrays.copyOf(prompt, prompt.length + completion.length);
    System.arraycopy(completion, 0, all, prompt.length, completion.length);
    return new Example(all, prompt.length);
  }

  private Example plain(JsonObject line, String prompt, String completion) {
    Example text = split(line, prompt, completion, true);
    int[] all = text.tokens();
    if (config.eosTokenIds().isEmpty() || config.eosTokenIds().contains(all[all.length - 1])) {
      return text;
    }
    int[] ended = Arrays.copyOf(all, all.length + 1);
    ended[all.length] = config.eosTokenIds().getFirst();
    return new Example(ended, text.prompt());
  }

  private Example conversation(JsonObject line, List<Message> messages) {
    if (messages.size() < 2 || !messages.getLast().role().equals("assistant")) {
      throw new BadFileException(
          line.file(), "ends without an answer: its last message must be the assistant's");
    }
    if (template == null) {
      template = ChatTemplate.load(model);
    }
    String prompt = template.render(messages.subList(0, messages.size() - 1), true);
    String whole = template.render(messages, false);
    if (!whole.startsWith(prompt)) {
      throw new BadFileException(
          line.file(),
          "the model's chat template writes the question differently once it has an answer:"
              + " give the line as prompt and completion");
    }
    return split(line, prompt, whole.substring(prompt.length()), false);
  }

  /** A token that holds the end of the prompt and the beginning of the completion is learnt. */
  private Example split(JsonObject line, String prompt, String completion, boolean special) {
    if (completion.isEmpty()) {
      throw new BadFileException(line.file(), "has an empty completion: there is nothing to learn");
    }
    if (tokenizer == null) {
      tokenizer = Tokenizer.load(model);
    }
    String text = prompt + completion;
    int[] tokens = tokenizer.encode(text, special);
    int[][] spans = tokenizer.spans(text, special);
    int first = 0;
    while (first < tokens.length && spans[first][1] <= prompt.length()) {
      first++;
    }
    if (first == 0 || first == tokens.length) {
      throw new BadFileException(
          line.file(),
          first == 0
              ? "has no token before its completion: give it a prompt"
              : "has no token of its completion");
    }
    return new Example(tokens, first);
  }

  @Override
  public void close() {
    Stream.ofNullable(tokenizer).forEach(Tokenizer::close);
  }
}
