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
import java.util.Objects;
import java.util.UUID;

/** OpenAI's completions and chat completions. */
final class CompletionRoutes {
  /** OpenAI's default, of completions. */
  private static final int MAX_TOKENS = 16;

  private static final int MOST_PROMPTS = 2048;

  static final String COMPLETIONS = "/v1/completions";
  static final String CHATS = "/v1/chat/completions";

  private final Backend backend;

  CompletionRoutes(Backend backend) {
    this.backend = backend;
  }

  List<Route> routes() {
    return List.of(
        Route.user("POST", COMPLETIONS, exchange -> answer(exchange, this::completion)),
        Route.user("POST", CHATS, exchange -> answer(exchange, this::chat)));
  }

  /** What a route makes of its fields, and of the plan that they bring. */
  @FunctionalInterface
  private interface Reader {
    Order read(Fields fields, SteeringPlan plan);
  }

  /**
   * A prompt.
   *
   * @param text as it came; null where only its tokens did
   */
  record Prompt(String text, int[] tokens) {
    Prompt withText(Tokenizer tokenizer, boolean skipsSpecial) {
      return text != null ? this : new Prompt(tokenizer.decode(tokens, skipsSpecial), tokens);
    }
  }

  /** What a body of completions asks for. */
  Order completion(Fields fields, SteeringPlan plan) {
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
    CompletionFormat format = new CompletionFormat(echo, top >= 0);
    return new Order(fields, asked, plan, prompts, maxTokens, true, "cmpl-", format);
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

  /** What a body of chats asks for. */
  Order chat(Fields fields, SteeringPlan plan) {
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
    return new Order(
        fields,
        asked,
        plan,
        List.of(prompt),
        List.of(maxTokens),
        false,
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
   * @param prefix of the answer's id
   */
  record Order(
      Fields fields,
      GenerationFields asked,
      SteeringPlan plan,
      List<Prompt> prompts,
      List<Integer> maxTokens,
      boolean goesOn,
      String prefix,
      AnswerFormat format) {

    /** The same, whose answers draw by a seed that an id decides where the body has none. */
    Order seeded(long seed, String id) {
      return new Order(
          fields, asked.seeded(seed, id), plan, prompts, maxTokens, goesOn, prefix, format);
    }

    /** Bytes of what {@code capture} reads of all answers, at most. */
    private long bytes(CaptureFields capture) {
      double bytes = 0; // which has no end to run over
      for (int i = 0; i < prompts.size(); i++) {
        bytes += capture.bytes(prompts.get(i).tokens, maxTokens.get(i));
      }
      return (long) (bytes * asked.choices());
    }
  }

  private void answer(Exchange exchange, Reader reader) throws IOException {
    Fields fields = exchange.fields();
    Order order = reader.read(fields, backend.plan(exchange.header(Backend.PLAN_HEADER), fields));
    try (CaptureStore.Taking captured = capture(order, exchange.owner());
        Metrics.Watch watch = backend.metrics().watch()) {
      backend.tellUnknown(exchange.path(), fields);
      begin(order, captured, watch)
          .send(exchange, order.asked.isStream(), order.asked.includesUsage());
    }
  }

  /**
   * Takes room for what is read of the answers; null where nothing is.
   *
   * @param owner who may fetch it; null where nobody can, and all can wait
   */
  CaptureStore.Taking capture(Order order, String owner) {
    CaptureFields capture = CaptureFields.read(order.fields, backend.model().config());
    if (capture == null) {
      return null;
    }
    CaptureStore captures = backend.captures();
    long bytes = order.bytes(capture);
    if (owner != null) {
      return captures.take(capture, bytes, capture.isDownload() ? owner : null);
    }
    if (capture.isDownload()) {
      throw ApiError.badRequest(
          CaptureFields.NAME, "\"as\": \"download\" needs a server: leave it out");
    }
    return captures.await(capture, bytes);
  }

  /** Submits what is to be answered. */
  Answers begin(Order order, CaptureStore.Taking captured, Metrics.Watch watch) {
    GenerationFields asked = order.asked;
    int least = Collections.min(order.maxTokens);
    if (asked.minTokens() > least) {
      throw order.fields.wrong("min_tokens", "at most what can be generated, %,d".formatted(least));
    }
    String id =
        order.prefix
            + Objects.requireNonNullElseGet(
                asked.requestId(), () -> UUID.randomUUID().toString().replace("-", ""));
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
              .withCacheSalt(asked.cacheSalt())
              .with(asked.logProbabilities());
      for (int n = 0; n < asked.choices(); n++) {
        Request one = request.withId(id + "-" + requests.size()).with(asked.sampling(n));
        requests.add(captured == null ? one : one.with(captured.of(one.prompt())));
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
    return new Answers(order.format, id, model, order.plan, read, choices, captured, watch);
  }
}
