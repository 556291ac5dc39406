package dev.halter.serving;

import static dev.halter.files.Json.object;

import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.generation.AsyncEngine;
import dev.halter.model.Llama;
import dev.halter.neurons.NeuronMap;
import dev.halter.patching.Effects;
import dev.halter.patching.EffectsFile;
import dev.halter.patching.Pair;
import dev.halter.patching.PathPatching;
import dev.halter.patching.PathPatching.Variant;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;

/** Path patching of pairs that a request brings, beside the requests for text. */
final class HeadRoutes {
  private static final int MOST_PAIRS = 1000;

  /** Sweeps that run or wait, one after another. */
  private static final int MOST_SWEEPS = 16;

  private final Backend backend;
  private final Semaphore sweeps = new Semaphore(MOST_SWEEPS);

  HeadRoutes(Backend backend) {
    this.backend = backend;
  }

  List<Route> routes() {
    return List.of(Route.user("POST", "/v1/heads/patch", this::patch));
  }

  private void patch(Exchange exchange) throws IOException {
    Fields fields = exchange.fields();
    Variant variant = fields.constant("variant", Variant.class, Variant.RECOMPUTE);
    boolean probability = fields.flag("probability", false);
    boolean isStream = fields.flag("stream", true);
    List<Pair> pairs = pairs(fields);
    fields.refuseUnknown();
    if (!sweeps.tryAcquire()) {
      throw new ApiError(
          503, null, "%d sweeps run or wait already; try again later".formatted(MOST_SWEEPS));
    }
    try {
      new Sweep(pairs, variant, probability, exchange).send(isStream);
    } finally {
      sweeps.release();
    }
  }

  private List<Pair> pairs(Fields fields) {
    List<JsonObject> given = Fields.read("pairs", () -> fields.reading("pairs").objects("pairs"));
    if (given.isEmpty() || given.size() > MOST_PAIRS) {
      throw ApiError.badRequest(
          "pairs",
          "\"pairs\" must be a list of 1 to %,d pairs, and has %,d"
              .formatted(MOST_PAIRS, given.size()));
    }
    List<Pair> pairs = new ArrayList<>();
    for (JsonObject json : given) {
      try {
        pairs.add(Fields.read("pairs", () -> Pair.of(json, backend.model())));
      } catch (ApiError | IllegalArgumentException e) { // the latter of a text that no token spells
        throw ApiError.badRequest(
            "pairs", "pair %d: %s".formatted(pairs.size() + 1, e.getMessage()));
      }
    }
    return pairs;
  }

  /** One sweep, and who waits for it. */
  private final class Sweep {
    private final List<Pair> pairs;
    private final Variant variant;
    private final boolean probability;
    private final Exchange exchange;
    private final int total; // layers of pairs
    private final AtomicInteger done = new AtomicInteger();
    private Writing writing; // once the status is out

    Sweep(List<Pair> pairs, Variant variant, boolean probability, Exchange exchange) {
      this.pairs = pairs;
      this.variant = variant;
      this.probability = probability;
      this.exchange = exchange;
      this.total = pairs.size() * backend.model().config().nLayers();
    }

    /** In pieces that are about as long as a step, between which requests go on. */
    private Map<String, Object> run(Llama model, AsyncEngine.Pause pause) {
      Effects effects = null;
      for (int first = 0; first < pairs.size(); ) {
        int end = Math.min(pairs.size(), first + PathPatching.pairsOfAPiece(model));
        List<Pair> piece = pairs.subList(first, end);
        int before = first * model.config().nLayers();
        pause.pause(piece.stream().mapToInt(Pair::longest).max().orElseThrow());
        Effects some =
            PathPatching.ofPiece(
                model,
                piece,
                variant,
                probability,
                layers -> {
                  done.set(before + layers);
                  pause.pause(0);
                });
        backend.metrics().patched(piece.size());
        effects = effects == null ? some : effects.plus(some);
        first = end;
      }
      return EffectsFile.document(NeuronMap.name(variant), effects, List.of());
    }

    void send(boolean isStream) throws IOException {
      CompletableFuture<Map<String, Object>> effects;
      try {
        effects = backend.engine().perform(this::run);
      } catch (RejectedExecutionException e) {
        throw new ApiError(503, null, e.getMessage());
      }
      try {
        if (isStream) {
          progress();
        }
        await(effects, isStream);
        Map<String, Object> document = effects.join();
        if (isStream) {
          progress();
          writing.send(event("effects", document) + "data: [DONE]\n\n");
        } else if (writing == null) {
          exchange.answer(200, document);
          return;
        } else {
          writing.send(Json.text(document));
        }
        writing.close();
      } catch (IOException | UncheckedIOException e) {
        effects.cancel(false); // nobody is there any more
        throw e;
      } catch (RuntimeException e) {
        if (writing != null) {
          Map<String, Object> error =
              (e instanceof ApiError api ? api : ApiError.ofServer()).json();
          writing.send(isStream ? event("error", error) + "data: [DONE]\n\n" : Json.text(error));
        }
        throw e;
      }
    }

    private void await(CompletableFuture<?> effects, boolean isStream) throws IOException {
      try {
        Answers.await(effects, () -> beat(isStream));
      } catch (CancellationException e) { // by the engine's end
        throw new ApiError(503, null, "the server is about to end");
      }
    }

    private void beat(boolean isStream) throws IOException {
      if (isStream) {
        progress();
      } else {
        write(Answers.JSON, " ");
      }
    }

    private void progress() throws IOException {
      write(
          Answers.EVENTS,
          event("progress", object("progress", object("done", done.get(), "total", total))));
    }

    private void write(String type, String text) throws IOException {
      if (writing == null) {
        writing = exchange.begin(200, type);
      }
      writing.send(text);
    }

    private static String event(String name, Object document) {
      return "event: " + name + "\ndata: " + Json.text(document) + "\n\n";
    }
  }
}
