package dev.halter.serving;

import static dev.halter.files.Json.object;

import dev.halter.text.TokenizerConfig;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Text into tokens and back, by vLLM's names. */
final class TokenRoutes {
  private final Backend backend;
  private final TokenizerConfig config;

  TokenRoutes(Backend backend) {
    this.backend = backend;
    this.config = TokenizerConfig.read(backend.model().folder());
  }

  List<Route> routes() {
    return List.of(
        Route.user("POST", "/tokenize", this::tokenize),
        Route.user("POST", "/detokenize", this::detokenize),
        Route.user("GET", "/tokenizer_info", this::info));
  }

  private void tokenize(Exchange exchange) {
    Fields fields = exchange.fields();
    backend.alias(fields.text("model", backend.name()));
    if (fields.has("prompt") == fields.has("messages")) {
      throw ApiError.badRequest("prompt", "one of \"prompt\" and \"messages\" is needed");
    }
    boolean isChat = fields.has("messages");
    boolean tellsTokens = fields.flag("return_token_strs", false);
    String text = isChat ? CompletionRoutes.render(backend, fields) : fields.text("prompt", null);
    boolean addSpecial = fields.flag("add_special_tokens", !isChat);
    int[] tokens = backend.encode(isChat ? "messages" : "prompt", text, addSpecial);
    backend.tellUnknown(exchange.path(), fields);
    List<String> pieces = new ArrayList<>();
    for (int token : tokens) {
      pieces.add(backend.tokenizer().piece(token));
    }
    exchange.answer(
        200,
        object(
            "count",
            tokens.length,
            "max_model_len",
            backend.maxTokens(),
            "tokens",
            tokens,
            "token_strs",
            tellsTokens ? pieces : null));
  }

  private void detokenize(Exchange exchange) {
    Fields fields = exchange.fields();
    backend.alias(fields.text("model", backend.name()));
    if (!fields.has("tokens")) {
      throw fields.wrong("tokens", "a list of ids of tokens");
    }
    List<Integer> ids = fields.tokens("tokens", Integer.MAX_VALUE); // decoding leaves others out
    int[] tokens = ids.stream().mapToInt(Integer::intValue).toArray();
    backend.tellUnknown(exchange.path(), fields);
    exchange.answer(200, object("prompt", backend.tokenizer().decode(tokens, false)));
  }

  /** What lm-eval needs to do without a tokenizer of its own. */
  private void info(Exchange exchange) {
    Map<String, String> tokens = config.specialTokens();
    Map<String, Object> info = object("tokenizer_class", "PreTrainedTokenizerFast");
    for (String name : List.of("bos_token", "eos_token", "pad_token", "unk_token")) {
      info.put(name, tokens.get(name));
    }
    if (!tokens.containsKey("eos_token") && !backend.model().stopTokens().isEmpty()) {
      int end = backend.model().stopTokens().iterator().next();
      info.put("eos_token", backend.tokenizer().decode(new int[] {end}, false));
    }
    info.put("chat_template", config.chatTemplate());
    info.put("vocab_size", backend.tokenizer().vocabularySize());
    info.put("model_max_length", backend.maxTokens());
    exchange.answer(200, info);
  }
}
