package dev.halter.serving;

import dev.halter.files.BadFileException;
import dev.halter.generation.AsyncEngine;
import dev.halter.generation.LanguageModel;
import dev.halter.neurons.NeuronMap;
import dev.halter.neurons.NeuronMap.Decode;
import dev.halter.neurons.NeuronMap.Projection;
import dev.halter.neurons.NeuronMap.Sign;
import dev.halter.neurons.NeuronSearch;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The neuron maps of a server: those that it was given, and of small models those that it makes
 * when they are first asked for, beside the requests.
 */
final class NeuronMaps {
  /** Multiplications of a map that is made here: on two cores, some tens of seconds. */
  private static final double MOST_WORK = 2e12;

  /** For the device that makes the largest models' maps in seconds. */
  private static final double MOST_WORK_OF_A_GPU = 2e15;

  /** For which a question waits; maps that take longer are made while it is asked again. */
  private static final long PATIENCE_SECONDS = 20;

  private final LanguageModel model;
  private final AsyncEngine engine;
  private final Key first; // of the map that is meant where a question does not say
  private final Map<Key, Making> maps = new HashMap<>();

  private record Key(Projection projection, Decode decode) {
    static Key of(NeuronMap map) {
      return new Key(map.settings().projection(), map.settings().decode());
    }
  }

  /** A map that is there, or is being made. */
  private record Making(CompletableFuture<NeuronSearch> search, AtomicInteger neurons) {}

  /**
   * With the maps of files.
   *
   * @throws BadFileException if one is none, is of another model, or is of what another is of
   */
  NeuronMaps(LanguageModel model, AsyncEngine engine, List<Path> files) {
    this.model = model;
    this.engine = engine;
    Key named = null;
    for (Path file : files) {
      NeuronMap map = NeuronMap.read(file);
      if (!map.settings().fingerprint().equals(model.llama().fingerprint())) {
        throw new BadFileException(
            file, "is a map of another model: make one of this model with halter map");
      }
      Making made =
          new Making(CompletableFuture.completedFuture(map.search()), new AtomicInteger());
      if (maps.put(Key.of(map), made) != null) {
        throw new BadFileException(
            file, "is decoded as another map is, with the same projection: name one of them");
      }
      named = named == null ? Key.of(map) : named;
    }
    this.first = named == null ? new Key(Projection.UP, Decode.RAW) : named;
  }

  /**
   * The index of a map.
   *
   * @param projection null for the first map's
   * @param decode likewise
   * @throws ApiError 409 if there is none and it is too much work to make, 503 while it is made
   */
  NeuronSearch search(Projection projection, Decode decode) {
    Key key =
        new Key(
            projection == null ? first.projection : projection,
            decode == null ? first.decode : decode);
    Making making = making(key);
    try {
      return making.search.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    } catch (TimeoutException e) {
      throw new ApiError(
          503,
          null,
          "the map is being made, %,d of %,d neurons are decoded: ask again"
              .formatted(making.neurons.get(), neurons()));
    } catch (ExecutionException e) {
      synchronized (this) {
        maps.remove(key, making); // the next question tries again
      }
      throw Answers.reason(e.getCause());
    } catch (CancellationException e) { // by the engine's end
      throw new ApiError(503, null, "the server is about to end");
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new ApiError(503, null, "the server is about to end");
    }
  }

  private long neurons() {
    return (long) model.config().nLayers() * model.config().dMlp();
  }

  private synchronized Making making(Key key) {
    Making there = maps.get(key);
    if (there != null) {
      return there;
    }
    ModelConfig config = model.config();
    double work = (double) neurons() * config.vocabularySize() * config.dModel();
    if (work > (model.device().wantsLargePieces() ? MOST_WORK_OF_A_GPU : MOST_WORK)) {
      throw new ApiError(
          409,
          "proj",
          "there is no map of %s projections by %s decoding, and this model's takes long: make it with halter map, and start the server with --map"
              .formatted(NeuronMap.name(key.projection), NeuronMap.name(key.decode)));
    }
    AtomicInteger done = new AtomicInteger();
    try {
      Making begun = new Making(engine.perform((llama, pause) -> make(key, done, pause)), done);
      maps.put(key, begun);
      return begun;
    } catch (RejectedExecutionException e) {
      throw new ApiError(503, null, e.getMessage());
    }
  }

  private NeuronSearch make(Key key, AtomicInteger done, AsyncEngine.Pause pause) {
    pause.pause(0);
    return NeuronMap.of(
            model.llama(),
            key.projection,
            key.decode,
            Sign.BOTH,
            NeuronMap.KEPT,
            neurons -> {
              done.set(neurons);
              pause.pause(0);
            })
        .search();
  }
}
