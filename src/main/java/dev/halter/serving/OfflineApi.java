package dev.halter.serving;

import dev.halter.files.JsonObject;
import dev.halter.generation.LanguageModel;
import dev.halter.steering.SteeringPlan;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.function.Consumer;

/**
 * Answers bodies of OpenAI's interfaces as a {@link Server} would, by the same code, but without a
 * network: for files of them. As long as it is open the model belongs to it; it is not closed with
 * it.
 */
public final class OfflineApi implements AutoCloseable {
  private final Backend backend;
  private final CompletionRoutes completions;

  /**
   * An answer, or why there is none.
   *
   * @param status of HTTP
   * @param body the document
   */
  public record Reply(int status, Map<String, Object> body) {
    /** Whether it is an answer. */
    public boolean isAnswer() {
      return status == 200;
    }

    /** Why there is none, for humans. */
    public String problem() {
      return (String) ((Map<?, ?>) body.get("error")).get("message");
    }

    private static Reply of(ApiError error) {
      return new Reply(error.status(), error.json());
    }
  }

  private OfflineApi(Backend backend) {
    this.backend = backend;
    this.completions = new CompletionRoutes(backend);
  }

  /**
   * Takes a model over.
   *
   * @param first plan of every body, before its own
   * @param plans folder of the plans that bodies may name, and of their vectors; null for none
   * @param log hears of fields that mean nothing, once each
   * @throws dev.halter.files.BadFileException if a file of plans cannot be used
   */
  public static OfflineApi open(
      LanguageModel model, SteeringPlan first, Path plans, Consumer<String> log) {
    PlanRegistry registry = new PlanRegistry(model.config(), plans, first);
    model.tokenizer(); // a broken one is an error of the folder, not of each body
    return new OfflineApi(new Backend(model, Integer.MAX_VALUE, registry, log));
  }

  /**
   * Answers a body. Blocks until the answer stands; others, from other threads, share its batch.
   *
   * @param url path of the interface
   * @param seed by which, with {@code id}, it draws where the body has no seed
   * @throws RuntimeException if the device fails
   */
  public Reply answer(String url, JsonObject body, long seed, String id) {
    try {
      Fields fields = Fields.of(body);
      SteeringPlan plan = backend.plan(null, fields);
      CompletionRoutes.Order order =
          switch (url) {
            case CompletionRoutes.COMPLETIONS -> completions.completion(fields, plan);
            case CompletionRoutes.CHATS -> completions.chat(fields, plan);
            default ->
                throw ApiError.notFound(
                    "url",
                    "\"%s\" is not served here, but %s and %s are"
                        .formatted(
                            Text.line(url), CompletionRoutes.COMPLETIONS, CompletionRoutes.CHATS));
          };
      if (order.asked().isStream()) {
        throw ApiError.badRequest("stream", "a file cannot be streamed to: leave \"stream\" out");
      }
      try (CaptureStore.Taking captured = completions.capture(order, null);
          Metrics.Watch watch = backend.metrics().watch()) {
        backend.tellUnknown(url, fields);
        return new Reply(200, completions.begin(order.seeded(seed, id), captured, watch).await());
      }
    } catch (ApiError e) {
      return Reply.of(e);
    }
  }

  /** Gives the model back; what is being answered ends with what it has. */
  @Override
  public void close() {
    backend.engine().close(Duration.ZERO);
    backend.captures().close();
  }
}
