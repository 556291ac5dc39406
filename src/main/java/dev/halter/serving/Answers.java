package dev.halter.serving;

import static dev.halter.files.Json.object;

import dev.halter.device.OutOfDeviceMemoryException;
import dev.halter.files.Json;
import dev.halter.generation.Generation;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringReport;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The answers to a request, at once or as a stream of events. Where the client has gone they are
 * cancelled: a write that fails tells it, so something is written all the time, also where nothing
 * is to be said yet (blanks before JSON, comments between events).
 */
final class Answers {
  /** Before it nothing is written, so that what fails soon has a status of its own. */
  private static final long QUIET_MILLIS = 1000;

  /** The first write to a client that has gone succeeds, so two of these tell it. */
  private static final long BEAT_MILLIS = 500;

  static final String JSON = "application/json";
  static final String EVENTS = "text/event-stream; charset=utf-8";

  static final Executor THREADS = task -> Thread.ofVirtual().start(task);

  private final AnswerFormat format;
  private final Map<String, Object> head;
  private final SteeringPlan plan;
  private final int prompts;
  private final List<Choice> choices;
  private final CaptureStore.Taking captured;
  private final Metrics.Watch watch;
  private Exchange exchange; // that they are sent to
  private Writing writing; // once the status is out

  /**
   * Answers to come.
   *
   * @param id of the request
   * @param model as the request called it
   * @param plan that steers them
   * @param prompts tokens of all prompts
   * @param captured what is read of them, or null
   */
  Answers(
      AnswerFormat format,
      String id,
      String model,
      SteeringPlan plan,
      int prompts,
      List<Choice> choices,
      CaptureStore.Taking captured,
      Metrics.Watch watch) {
    this.format = format;
    this.head = object("id", id, "object", null, "created", Instant.now().getEpochSecond());
    head.put("model", model);
    this.plan = plan;
    this.prompts = prompts;
    this.choices = choices;
    this.captured = captured;
    this.watch = watch;
  }

  /** Waits for them. */
  Map<String, Object> await() {
    try {
      return whole(choices.stream().map(this::outcome).toList());
    } catch (CompletionException e) {
      throw reason(e);
    }
  }

  /** Sends them. */
  void send(Exchange to, boolean isStream, boolean includesUsage) throws IOException {
    exchange = to;
    try {
      if (isStream) {
        new Stream(includesUsage).run();
      } else {
        sendWhole();
      }
    } catch (IOException | UncheckedIOException e) {
      cancel(); // nobody is there any more
      throw e;
    } catch (RuntimeException e) {
      if (writing != null) { // the status is out
        String error = Json.text((e instanceof ApiError api ? api : ApiError.ofServer()).json());
        writing.send(isStream ? "data: " + error + "\n\ndata: [DONE]\n\n" : error);
      }
      throw e;
    }
  }

  private synchronized void write(String type, String text) throws IOException {
    if (writing == null) {
      writing = exchange.begin(200, type);
    }
    writing.send(text);
  }

  private void cancel() {
    choices.forEach(choice -> choice.generation().cancel());
  }

  /** Something to do while one waits. */
  interface Beat {
    void beat() throws IOException;
  }

  /** Waits for all, and does something from time to time. */
  static void await(CompletableFuture<?> all, Beat beat) throws IOException {
    long millis = QUIET_MILLIS;
    while (true) {
      try {
        all.get(millis, TimeUnit.MILLISECONDS);
        return;
      } catch (TimeoutException e) {
        beat.beat();
        millis = BEAT_MILLIS;
      } catch (ExecutionException e) {
        throw reason(e.getCause()); // of a client that has gone, an UncheckedIOException
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new IOException(e); // the server is closed
      }
    }
  }

  /** What a failure is to the client. */
  static RuntimeException reason(Throwable failure) {
    Throwable cause = failure;
    while (cause instanceof CompletionException && cause.getCause() != null) {
      cause = cause.getCause();
    }
    return switch (cause) {
      case ApiError e -> e;
      case RejectedExecutionException e -> new ApiError(503, null, e.getMessage());
      case IllegalArgumentException e -> ApiError.badRequest(null, e.getMessage());
      case OutOfDeviceMemoryException e -> new ApiError(503, null, e.getMessage());
      case RuntimeException e -> e;
      default -> new IllegalStateException(cause);
    };
  }

  private void sendWhole() throws IOException {
    List<CompletableFuture<Choice.Outcome>> coming =
        choices.stream()
            .map(choice -> CompletableFuture.supplyAsync(() -> outcome(choice), THREADS))
            .toList();
    await(
        CompletableFuture.allOf(coming.toArray(CompletableFuture[]::new)), () -> write(JSON, " "));
    Map<String, Object> document = whole(coming.stream().map(CompletableFuture::join).toList());
    if (writing == null) {
      exchange.answer(200, document);
    } else {
      write(JSON, Json.text(document));
      writing.close();
    }
  }

  private Choice.Outcome outcome(Choice choice) {
    try {
      return choice.await();
    } catch (RuntimeException e) {
      cancel(); // one that fails is the end of all
      throw e;
    }
  }

  private Map<String, Object> whole(List<Choice.Outcome> outcomes) {
    List<Object> told = new ArrayList<>();
    for (int i = 0; i < choices.size(); i++) {
      told.add(whole(choices.get(i), outcomes.get(i)));
      watch.ended(choices.get(i), outcomes.get(i));
    }
    Map<String, Object> document = head(format.kind());
    document.put("choices", told);
    document.put("usage", usage(outcomes));
    tell(document, outcomes);
    return document;
  }

  private Map<String, Object> whole(Choice choice, Choice.Outcome outcome) {
    Map<String, Object> whole = format.whole(choice, outcome);
    if (choice.fields().tellsPrompt()) {
      whole.put("prompt_logprobs", PromptLogProbabilities.of(choice, outcome.prompt()));
    }
    if (choice.fields().tellsIds()) {
      whole.put("token_ids", ids(outcome.answer().tokens()));
      whole.put("prompt_token_ids", choice.generation().request().prompt());
    }
    return whole;
  }

  private Map<String, Object> part(Choice choice, Choice.Piece piece) {
    Map<String, Object> part = format.part(choice, piece);
    if (choice.fields().tellsIds()) {
      part.put("token_ids", ids(piece.tokens()));
    }
    return part;
  }

  private static int[] ids(List<Generation.Token> tokens) {
    return tokens.stream().mapToInt(Generation.Token::id).toArray();
  }

  private Map<String, Object> head(String kind) {
    Map<String, Object> document = object();
    document.putAll(head);
    document.put("object", kind);
    return document;
  }

  private Map<String, Object> usage(List<Choice.Outcome> outcomes) {
    int generated = outcomes.stream().mapToInt(each -> each.answer().tokens().size()).sum();
    return object(
        "prompt_tokens", prompts,
        "completion_tokens", generated,
        "total_tokens", prompts + generated);
  }

  /** Adds what is told of all answers beside OpenAI's fields. */
  private void tell(Map<String, Object> document, List<Choice.Outcome> outcomes) {
    Map<String, Object> halter = halter(plan, outcomes);
    document.put("halter", halter);
    if (captured != null && captured.isTensor()) {
      document.put("activations", object("residual_stream", captured.tensor(choices)));
    } else if (captured != null) {
      halter.put(CaptureFields.NAME, captured.json(choices));
    }
  }

  /** The plan and what it did; where there are several answers, to each of them. */
  static Map<String, Object> halter(SteeringPlan plan, List<Choice.Outcome> outcomes) {
    SteeringReport first = outcomes.getFirst().report();
    boolean isSteered = !plan.interventions().isEmpty();
    Map<String, Object> halter =
        object(
            "plan",
            isSteered ? plan.name() : null,
            "plan_id",
            isSteered ? plan.fingerprint() : null,
            "report",
            first.json());
    if (outcomes.size() > 1) {
      halter.put("reports", outcomes.stream().map(each -> each.report().json()).toList());
    }
    return halter;
  }

  /** Answers as events while they are made, by a thread for each. */
  private final class Stream {
    private final boolean includesUsage;
    private final Choice.Outcome[] outcomes = new Choice.Outcome[choices.size()];
    private final AtomicInteger left = new AtomicInteger(choices.size());

    Stream(boolean includesUsage) {
      this.includesUsage = includesUsage;
    }

    void run() throws IOException {
      CompletableFuture<?>[] coming =
          choices.stream()
              .map(choice -> CompletableFuture.runAsync(() -> run(choice), THREADS))
              .toArray(CompletableFuture[]::new);
      await(CompletableFuture.allOf(coming), () -> write(EVENTS, ": \n\n"));
      write(EVENTS, "data: [DONE]\n\n");
      writing.close();
    }

    private void run(Choice choice) {
      try {
        Map<String, Object> opening = format.opening(choice);
        boolean[] isOpen = {opening == null};
        Choice.Piece[] last = {null};
        Choice.Outcome outcome =
            choice.await(
                piece -> {
                  if (!isOpen[0]) { // now that the request is known to be served
                    isOpen[0] = true;
                    event(chunk(List.of(opening)));
                  }
                  if (piece.finishReason() == null) {
                    event(chunk(List.of(part(choice, piece))));
                  }
                  last[0] = piece;
                });
        watch.ended(choice, outcome);
        end(choice, last[0], outcome);
      } catch (RuntimeException e) {
        cancel(); // one that fails is the end of all
        throw e;
      } catch (IOException e) {
        cancel();
        throw new UncheckedIOException(e);
      }
    }

    /** Sends the last part of an answer; with that of the last one, what is told of all. */
    private void end(Choice choice, Choice.Piece last, Choice.Outcome outcome) throws IOException {
      outcomes[choice.index()] = outcome;
      Map<String, Object> chunk = chunk(List.of(part(choice, last)));
      boolean isLast = left.decrementAndGet() == 0;
      if (isLast && !includesUsage) {
        tell(chunk, List.of(outcomes));
      }
      event(chunk);
      if (isLast && includesUsage) {
        Map<String, Object> usage = chunk(List.of());
        usage.put("usage", usage(List.of(outcomes)));
        tell(usage, List.of(outcomes));
        event(usage);
      }
    }

    private Map<String, Object> chunk(List<Object> parts) {
      Map<String, Object> chunk = head(format.chunkKind());
      chunk.put("choices", parts);
      return chunk;
    }

    private void event(Object document) throws IOException {
      write(EVENTS, "data: " + Json.text(document) + "\n\n");
    }
  }
}
