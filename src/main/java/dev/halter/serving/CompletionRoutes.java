package dev.halter.serving;

import dev.halter.generation.Generation;
import dev.halter.generation.LogProbabilities;
import dev.halter.generation.Request;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.ChatTemplate;
import dev.halter.text.Message;
import dev.halter.text.Tokenizer;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.regex.Pattern;

/** OpenAI's completions and chat completions. */
final class CompletionRoutes {
  /** OpenAI's default, of completions. */
  private static final int MAX_TOKENS = 16;

  private static final int MOST_PROMPTS = 2048;

  private static final Pattern REQUEST_ID = Pattern.compile("[A-Za-z0-9._:-]{1,256}");

  private final Backend backend;

  CompletionRoutes(Backend backend) {
    this.backend = backend;
  }

  List<Route> routes() {
    return List.of(
        Route.user("POST", "/v1/completions", this::complete),
        Route.user("POST", "/v1/chat/completions", this::chat));
  }

  /**
   * A prompt.
   *
   * @param text as it came; null where only its tokens did
   */
  private record Prompt(String text, int[] tokens) {
    Prompt withText(Tokenizer tokenizer, boolean skipsSpecial) {
      return text != null ? this : new Prompt(tokenizer.decode(tokens, skipsSpecial), tokens);
    }
  }

  private void complete(Exchange exchange) throws IOException {
    Fields fields = exchange.fields();
    SteeringPlan plan = backend.plan(exchange, fields);
    int top = fields.integer("logprobs", 0, LogProbabilities.MOST, -1);
    boolean echo = fields.flag("echo", false);
    GenerationFields asked =
        GenerationFields.read(fields, List.of("max_tokens"), top, echo, backend.vocabulary());
    List<Prompt> prompts = prompts(fields);
    if (echo) {
      prompts.replaceAll(prompt -> prompt.withText(backend.tokenizer(), asked.skipsSpecial()));
    }
    List<Integer> maxTokens = new ArrayList<>();
    for (Prompt prompt : prompts) {
      int length = prompt.tokens.length;
      boolean says = asked.maxTokens() >= 0;
      int most = backend.room("prompt", length, says ? asked.maxTokens() : -1);
      maxTokens.add(says ? most : Math.min(MAX_TOKENS, most));
    }
    answer(
        exchange,
        new Order(fields, asked, plan, prompts, maxTokens, true),
        "cmpl-",
        new CompletionFormat(echo, top >= 0));
  }

  private List<Prompt> prompts(Fields fields) {
    boolean addSpecial = fields.flag("add_special_tokens", true);
    List<?> given =
        fields.value("prompt") instanceof List<?> list && !isIds(list)
            ? list
            : Collections.singletonList(fields.value("prompt"));
    if (given.isEmpty() || given.size() > MOST_PROMPTS) {
      throw noPrompt(fields);
    }
    List<Prompt> prompts = new ArrayList<>();
    for (Object each : given) {
      if (each instanceof String text) {
        prompts.add(new Prompt(text, backend.encode("prompt", text, addSpecial)));
      } else if (each instanceof List<?> ids) {
        List<Integer> tokens = fields.tokens("prompt", ids, backend.vocabulary());
        prompts.add(new Prompt(null, tokens.stream().mapToInt(Integer::intValue).toArray()));
      } else {
        throw noPrompt(fields);
      }
    }
    return prompts;
  }

  private static boolean isIds(List<?> prompt) {
    return !prompt.isEmpty() && prompt.getFirst() instanceof Number;
  }

  private static ApiError noPrompt(Fields fields) {
    return fields.wrong(
        "prompt",
        "a text, a list of ids of tokens, or a list of up to %,d of either"
            .formatted(MOST_PROMPTS));
  }

  private void chat(Exchange exchange) throws IOException {
    Fields fields = exchange.fields();
    SteeringPlan plan = backend.plan(exchange, fields);
    boolean tells = fields.flag("logprobs", false);
    int top = fields.integer("top_logprobs", 0, LogProbabilities.MOST, 0);
    if (top > 0 && !tells) {
      throw fields.wrong("top_logprobs", "left out where \"logprobs\" is not true");
    }
    refuseTools(fields);
    GenerationFields asked =
        GenerationFields.read(
            fields,
            List.of("max_completion_tokens", "max_tokens"),
            tells ? top : -1,
            false,
            backend.vocabulary());
    String text = render(backend, fields);
    boolean addSpecial = fields.flag("add_special_tokens", false); // the template brings them
    Prompt prompt = new Prompt(text, backend.encode("messages", text, addSpecial));
    int maxTokens = backend.room("messages", prompt.tokens.length, asked.maxTokens());
    answer(
        exchange,
        new Order(fields, asked, plan, List.of(prompt), List.of(maxTokens), false),
        "chatcmpl-",
        new ChatFormat(tells));
  }

  private static void refuseTools(Fields fields) {
    boolean some = fields.has("tools") && !List.of().equals(fields.value("tools"));
    if (some && !"none".equals(fields.value("tool_choice"))) {
      throw ApiError.badRequest("tools", "tools are not served here: leave \"tools\" out");
    }
  }

  /** The prompt that a template makes of a chat, for what both routes read. */
  static String render(Backend backend, Fields fields) {
    List<Message> messages =
        Fields.read("messages", () -> Message.list(fields.reading("messages")));
    Map<String, Object> variables =
        fields.has("chat_template_kwargs")
            ? fields.object("chat_template_kwargs").values()
            : Map.of();
    boolean goesOn = fields.flag("continue_final_message", false);
    boolean opens = fields.flag("add_generation_prompt", !goesOn);
    if (goesOn && opens) {
      throw fields.wrong("continue_final_message", "false where \"add_generation_prompt\" is true");
    }
    try {
      ChatTemplate template = backend.model().template();
      return goesOn
          ? template.renderOpen(messages, variables)
          : template.render(messages, opens, variables);
    } catch (IllegalArgumentException e) { // the template's own words, or that there is none
      throw ApiError.badRequest("messages", e.getMessage());
    }
  }

  /**
   * What is to be answered.
   *
   * @param goesOn whether the text of an answer goes on from that of its prompt
   */
  private record Order(
      Fields fields,
      GenerationFields asked,
      SteeringPlan plan,
      List<Prompt> prompts,
      List<Integer> maxTokens,
      boolean goesOn) {}

  private void answer(Exchange exchange, Order order, String prefix, AnswerFormat format)
      throws IOException {
    String id = prefix + requestId(exchange, order.fields);
    String salt = cacheSalt(order.fields);
    requireNoPriority(order.fields);
    backend.tellUnknown(exchange, order.fields);
    GenerationFields asked = order.asked;
    int least = Collections.min(order.maxTokens);
    if (asked.minTokens() > least) {
      throw order.fields.wrong("min_tokens", "at most what can be generated, %,d".formatted(least));
    }
    List<Request> requests = new ArrayList<>();
    for (int i = 0; i < order.prompts.size(); i++) {
      Request request =
          backend
              .model()
              .request(order.prompts.get(i).tokens)
              .withMaxTokens(order.maxTokens.get(i))
              .withMinTokens(asked.minTokens())
              .withStopTokens(asked.stopTokens(backend.model().stopTokens()))
              .with(order.plan)
              .withCacheSalt(salt)
              .with(asked.logProbabilities());
      for (int n = 0; n < asked.choices(); n++) {
        requests.add(request.withId(id + "-" + requests.size()).with(asked.sampling(n)));
      }
    }
    List<Generation> generations = backend.submit(requests);
    List<Choice> choices = new ArrayList<>();
    for (Generation generation : generations) {
      Prompt prompt = order.prompts.get(choices.size() / asked.choices());
      choices.add(
          new Choice(
              choices.size(), prompt.text, generation, order.goesOn, asked, backend.tokenizer()));
    }
    int read = order.prompts.stream().mapToInt(prompt -> prompt.tokens.length).sum();
    String model = order.fields.text("model", backend.name());
    try (Metrics.Watch watch = backend.metrics().watch()) {
      new Answers(format, id, model, order.plan, read, choices, watch, exchange)
          .send(asked.isStream(), asked.includesUsage());
    }
  }

  /** The client's own, as vLLM takes it, or one of chance. */
  private static String requestId(Exchange exchange, Fields fields) {
    String id = fields.text("request_id", exchange.header("X-Request-Id"));
    if (id != null && REQUEST_ID.matcher(id).matches()) {
      return id;
    }
    if (fields.has("request_id")) {
      throw fields.wrong("request_id", "of 1 to 256 letters, digits, '.', '_', ':' and '-'");
    }
    return UUID.randomUUID().toString().replace("-", "");
  }

  private static String cacheSalt(Fields fields) {
    String salt = fields.text("cache_salt", null);
    if (salt != null && salt.isEmpty()) {
      throw fields.wrong("cache_salt", "a text that is not empty");
    }
    return salt;
  }

  /** As vLLM does where it was not told otherwise. */
  private static void requireNoPriority(Fields fields) {
    if (fields.integer("priority", Integer.MIN_VALUE, Integer.MAX_VALUE, 0) != 0) {
      throw fields.wrong("priority", "0: requests are served in the order in which they came");
    }
  }
}
