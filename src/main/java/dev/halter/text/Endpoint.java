package dev.halter.text;

import dev.halter.files.BadFileException;
import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.generation.Answer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.HttpTimeoutException;
import java.nio.channels.UnresolvedAddressException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.DateTimeException;
import java.time.Duration;
import java.time.Instant;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletionService;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorCompletionService;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Consumer;
import javax.net.ssl.SSLException;

/**
 * A model behind the chat completions of an OpenAI-compatible HTTP interface.
 *
 * <p>Asked again after a while are: status 408, 429 and 5xx, answers that do not come in time, and
 * connections that fail. A request that is refused as such (400, 413, 422: a filter of contents, a
 * text that is too long) costs its own answer only. Anything else ends the whole: a key that is
 * refused, a name that is unknown, an answer that is no completion.
 */
public final class Endpoint implements Chat {
  private static final Duration CONNECT = Duration.ofSeconds(10);
  private static final Duration ANSWER = Duration.ofMinutes(2);
  private static final Duration FIRST_WAIT = Duration.ofSeconds(1);
  private static final Duration LONGEST_WAIT = Duration.ofMinutes(1);

  /** A server that wants more is not waited for. */
  private static final Duration LONGEST_RETRY_AFTER = Duration.ofMinutes(10);

  private static final int MOST_BYTES = 1 << 20;
  private static final String COMPLETIONS = "/chat/completions";

  private final URI uri;
  private final Settings settings;
  private final Duration firstWait;
  private final HttpClient client =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(CONNECT).build();

  /**
   * Whom to ask and how.
   *
   * @param base such as {@code https://api.openai.com/v1} or {@code http://localhost:8000/v1}
   * @param model name of the model there
   * @param key is sent and never shown; empty for none
   * @param request further members of a request, a JSON object
   * @param parallel requests at once
   * @param retries how often a request is sent again
   */
  public record Settings(
      String base, String model, String key, String request, int parallel, int retries) {
    @Override
    public String toString() {
      return model + " at " + base; // the key is in nothing that may be printed
    }
  }

  /** A problem with one request that may pass. */
  private record Trouble(String problem, Duration delay) {}

  /**
   * An endpoint; nothing is sent before it is asked.
   *
   * @throws IllegalArgumentException for settings that can mean nothing
   */
  public Endpoint(Settings settings) {
    this(settings, FIRST_WAIT);
  }

  /** With the time before the first retry, which doubles with each. */
  public Endpoint(Settings settings, Duration firstWait) {
    this.settings = settings;
    this.firstWait = firstWait;
    this.uri = completions(settings.base);
    // The client's own message would show it.
    if (!settings.key.chars().allMatch(c -> c > ' ' && c < 127)) {
      throw new IllegalArgumentException("the API key holds blanks or characters that no key has");
    }
    JsonObject request =
        JsonObject.parse(Path.of("request"), settings.request.getBytes(StandardCharsets.UTF_8));
    for (String key : List.of("model", "messages", "stream", "n")) {
      if (request.has(key)) {
        throw request.wrong(key, "left out: Halter sets it");
      }
    }
  }

  private static URI completions(String base) {
    try {
      URI uri = URI.create(base);
      boolean web = "http".equals(uri.getScheme()) || "https".equals(uri.getScheme());
      if (web && uri.getHost() != null && uri.getUserInfo() == null && uri.getFragment() == null) {
        String path = uri.getPath().replaceFirst("/+$", "");
        path = path.endsWith(COMPLETIONS) ? path : path + COMPLETIONS;
        return new URI(uri.getScheme(), uri.getAuthority(), path, uri.getQuery(), null);
      }
    } catch (IllegalArgumentException | java.net.URISyntaxException e) {
      // told below
    }
    throw new IllegalArgumentException(
        "the endpoint must be a URL such as http://localhost:8000/v1, without user or password");
  }

  @Override
  public String name() {
    return settings.model;
  }

  @Override
  public void ask(List<List<Message>> conversations, Consumer<Answer> heard) {
    try (ExecutorService workers =
        Executors.newFixedThreadPool(settings.parallel, Thread.ofVirtual().factory())) {
      CompletionService<Answer> answers = new ExecutorCompletionService<>(workers);
      for (int i = 0; i < conversations.size(); i++) {
        int conversation = i;
        answers.submit(() -> answer(conversation, conversations.get(conversation)));
      }
      try {
        for (int i = 0; i < conversations.size(); i++) {
          heard.accept(answers.take().get());
        }
      } catch (ExecutionException e) {
        // What was answered meanwhile is not lost.
        for (Future<Answer> done = answers.poll(); done != null; done = answers.poll()) {
          if (done.state() == Future.State.SUCCESS) {
            heard.accept(done.resultNow());
          }
        }
        throw e.getCause() instanceof RuntimeException cause
            ? cause
            : new IllegalStateException(e.getCause());
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new IllegalStateException("interrupted", e);
      } finally {
        workers.shutdownNow();
      }
    }
  }

  private Answer answer(int conversation, List<Message> messages) throws InterruptedException {
    HttpRequest.Builder builder =
        HttpRequest.newBuilder(uri)
            .timeout(ANSWER)
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body(messages)));
    if (!settings.key.isEmpty()) {
      builder.header("Authorization", "Bearer " + settings.key);
    }
    HttpRequest request = builder.build();
    for (int attempt = 0; ; attempt++) {
      Duration wait = backoff(attempt);
      Trouble trouble;
      try {
        HttpResponse<byte[]> response =
            client.send(request, BodyHandlers.limiting(BodyHandlers.ofByteArray(), MOST_BYTES));
        int status = response.statusCode();
        if (status == 200) {
          return new Answer(conversation, content(response.body()), null);
        }
        String said = status + said(response.body());
        if (status == 400 || status == 413 || status == 422) {
          return new Answer(conversation, null, "refused with status " + said);
        }
        if (status != 408 && status != 429 && status < 500) {
          throw failure(hint(status) + " (status " + said + ")", null);
        }
        trouble = new Trouble("answers with status " + said, retryAfter(response, wait));
      } catch (HttpTimeoutException e) {
        trouble = new Trouble("does not answer in time", wait);
      } catch (SSLException e) {
        throw failure("no secure connection: " + e.getMessage(), e);
      } catch (ConnectException e) {
        if (e.getCause() instanceof UnresolvedAddressException
            || e.getCause() instanceof ConnectException cause
                && cause.getCause() instanceof UnresolvedAddressException) {
          throw failure("unknown host", e);
        }
        trouble = new Trouble("cannot be reached", wait);
      } catch (IOException e) {
        trouble = new Trouble("breaks off: " + e.getMessage(), wait);
      }
      if (attempt == settings.retries) {
        throw failure(
            trouble.problem
                + ", also when asked %d times; run again later to go on".formatted(attempt + 1),
            null);
      }
      Thread.sleep(trouble.delay);
    }
  }

  /** Twice as long each time, and a random part of it: many that wait do not come back at once. */
  private Duration backoff(int attempt) {
    double longest =
        Math.min(firstWait.toMillis() * Math.pow(2, attempt), (double) LONGEST_WAIT.toMillis());
    return Duration.ofMillis((long) (longest * ThreadLocalRandom.current().nextDouble(0.5, 1)));
  }

  /** What a server asks to wait, in seconds or until a date; {@code otherwise} if nothing. */
  private Duration retryAfter(HttpResponse<?> response, Duration otherwise) {
    String value = response.headers().firstValue("Retry-After").orElse("").strip();
    Duration wait = otherwise;
    if (value.matches("\\d{1,9}")) {
      wait = Duration.ofSeconds(Long.parseLong(value));
    } else if (!value.isEmpty()) {
      try {
        Instant until =
            ZonedDateTime.parse(value, DateTimeFormatter.RFC_1123_DATE_TIME).toInstant();
        wait = Duration.between(Instant.now(), until);
      } catch (DateTimeException e) {
        // no time that is known: as if nothing was said
      }
    }
    if (wait.compareTo(LONGEST_RETRY_AFTER) > 0) {
      throw failure("asks to come back in %,d s".formatted(wait.toSeconds()), null);
    }
    return wait.isNegative() ? Duration.ZERO : wait;
  }

  private String body(List<Message> messages) {
    List<Object> turns = new ArrayList<>();
    for (Message message : messages) {
      turns.add(Json.object("role", message.role(), "content", message.content()));
    }
    String body = Json.text(Json.object("model", settings.model, "messages", turns));
    // Both are objects, and have no key in common.
    String more = settings.request.strip().replaceFirst("^\\{\\s*", "");
    return more.equals("}") ? body : body.replaceFirst("}$", ",") + more;
  }

  private String content(byte[] body) {
    try {
      List<JsonObject> choices = JsonObject.parse(Path.of("answer"), body).objects("choices");
      if (!choices.isEmpty()) {
        return choices.getFirst().object("message").text("content", "");
      }
    } catch (BadFileException e) {
      // told below
    }
    throw failure("its answer is no chat completion; is this the interface's base URL?", null);
  }

  private String hint(int status) {
    return switch (status) {
      case 401, 403 ->
          settings.key.isEmpty() ? "wants an API key, and none is set" : "refuses the API key";
      case 404, 405 ->
          "knows no such path, or no model \"" + settings.model + "\"; is this the base URL?";
      default -> "cannot be used";
    };
  }

  /** What a server says of its status, shortened. */
  private String said(byte[] body) {
    String text = new String(body, StandardCharsets.UTF_8);
    try {
      JsonObject json = JsonObject.parse(Path.of("answer"), body);
      if (json.value("error") instanceof java.util.Map<?, ?>) {
        json = json.object("error");
      }
      text = json.text("message", text);
    } catch (BadFileException e) {
      // plain text, then
    }
    String line = secret(text.strip().replaceAll("\\s+", " "));
    return line.isEmpty() ? "" : ": " + (line.length() > 200 ? line.substring(0, 200) + "…" : line);
  }

  private String secret(String text) {
    return settings.key.isEmpty() ? text : text.replace(settings.key, "…");
  }

  private UncheckedIOException failure(String problem, IOException cause) {
    String message = secret(uri + ": " + problem);
    return new UncheckedIOException(message, cause == null ? new IOException(message) : cause);
  }

  @Override
  public void close() {
    client.shutdownNow();
    client.close();
  }
}
