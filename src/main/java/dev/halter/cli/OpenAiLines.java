package dev.halter.cli;

import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.serving.OfflineApi;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicReference;

/**
 * Answers lines of OpenAI's batch files: {@code {"custom_id", "method", "url", "body"}}, each to be
 * {@code {"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}}. What is
 * wrong with a body is its response, with the status and the body that a server would give; what is
 * wrong with a line is its error.
 */
final class OpenAiLines {
  private final OfflineApi api;
  private final BatchLedger ledger;
  private final long seed;
  private final int atOnce;
  private final AtomicReference<Throwable> failure = new AtomicReference<>();

  /**
   * Lines to come.
   *
   * @param atOnce lines that are read before one of them is answered
   */
  OpenAiLines(OfflineApi api, BatchLedger ledger, long seed, int atOnce) {
    this.api = api;
    this.ledger = ledger;
    this.seed = seed;
    this.atOnce = atOnce;
  }

  /**
   * Answers all.
   *
   * @throws RuntimeException what ended it early: the device or the file of results failed
   */
  void run(InputLine.Reader lines) {
    Semaphore room = new Semaphore(atOnce);
    try (ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
      while (lines.hasNext() && failure.get() == null) {
        InputLine line = lines.next();
        if (line.error() != null) {
          fail(line, line.error());
        } else if (!ledger.skips(line)) {
          room.acquireUninterruptibly();
          threads.execute(
              () -> {
                try {
                  answer(line);
                } catch (RuntimeException | Error e) {
                  failure.compareAndSet(null, e);
                } finally {
                  room.release();
                }
              });
        }
      }
    }
    switch (failure.get()) {
      case null -> {}
      case Error error -> throw error;
      case RuntimeException problem -> throw problem;
      case Throwable other -> throw new AssertionError(other); // nothing else is caught
    }
  }

  private void answer(InputLine line) {
    OfflineApi.Reply reply;
    try {
      JsonObject json = line.json();
      if (!json.text("method").equals("POST")) {
        throw json.wrong("method", "\"POST\"");
      }
      reply = api.answer(json.text("url"), json.object("body"), seed, line.id().toString());
    } catch (IllegalArgumentException e) {
      fail(line, e.getMessage());
      return;
    }
    Object id = reply.body().get("id");
    Map<String, Object> result =
        result(
            line,
            Json.object(
                "status_code", reply.status(),
                "request_id", id == null ? "req_" + hex() : id,
                "body", reply.body()),
            null);
    if (reply.isAnswer()) {
      ledger.answered(result);
    } else {
      ledger.failed(line, reply.problem(), result);
    }
  }

  private void fail(InputLine line, String problem) {
    Map<String, Object> error =
        Json.object(
            "code", "invalid_line", "message", line.failure(problem), "line", line.number());
    ledger.failed(line, problem, result(line, null, error));
  }

  private static Map<String, Object> result(
      InputLine line, Map<String, Object> response, Map<String, Object> error) {
    return Json.object(
        "id", "batch_req_" + hex(), "custom_id", line.id(), "response", response, "error", error);
  }

  private static String hex() {
    return UUID.randomUUID().toString().replace("-", "");
  }
}
