package dev.halter.serving;

import dev.halter.generation.LanguageModel;
import dev.halter.steering.SteeringPlan;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.function.Consumer;
import java.util.stream.Stream;

/**
 * A model behind OpenAI's HTTP interface, with a steering plan for each request. As long as it runs
 * the model belongs to it; it is not closed with it.
 */
public final class Server implements AutoCloseable {
  private final Backend backend;
  private final Front front;

  /**
   * How a server is set up.
   *
   * @param host name or address to listen at
   * @param port 0 for any that is free
   * @param plans folder of the plans that requests may name, and of their vectors; null for none
   * @param maps files of neuron maps of the model, for searches
   * @param apiKeys file of the keys that clients must show, or null
   * @param adminKeys file of the keys with which plans are loaded and unloaded, or null for nobody
   * @param maxQueue most answers that wait for room in the batch
   * @param version what {@code /version} tells
   */
  public record Settings(
      String host,
      int port,
      Path plans,
      List<Path> maps,
      Path apiKeys,
      Path adminKeys,
      int maxQueue,
      String version) {}

  private Server(Backend backend, Front front) {
    this.backend = backend;
    this.front = front;
  }

  /**
   * Serves from now on, from threads of its own.
   *
   * @param first plan of every request, before its own
   * @param log hears in one line each what whoever runs the server should know
   * @throws dev.halter.files.BadFileException if a file of plans or keys cannot be used
   * @throws IOException if it cannot listen there
   */
  public static Server start(
      LanguageModel model, SteeringPlan first, Settings settings, Consumer<String> log)
      throws IOException {
    Keys keys = settings.apiKeys == null ? Keys.NONE : Keys.read(settings.apiKeys);
    Keys adminKeys = settings.adminKeys == null ? Keys.NONE : Keys.read(settings.adminKeys);
    PlanRegistry plans = new PlanRegistry(model.config(), settings.plans, first);
    model.tokenizer(); // a broken one is an error of the folder, not of each request
    InetSocketAddress address = new InetSocketAddress(settings.host, settings.port);
    if (address.isUnresolved()) {
      throw new IllegalArgumentException("there is no host " + settings.host);
    }
    Backend backend = new Backend(model, settings.maxQueue, plans, log);
    try {
      NeuronMaps maps = new NeuronMaps(model, backend.engine(), settings.maps);
      List<Route> routes =
          Stream.of(
                  new CompletionRoutes(backend).routes(),
                  new TokenRoutes(backend).routes(),
                  new PlanRoutes(backend).routes(),
                  new VectorRoutes(backend).routes(),
                  new PageRoutes().routes(),
                  new SteeringRoutes(backend).routes(),
                  new SteerRoutes(backend).routes(),
                  new CaptureRoutes(backend).routes(),
                  new NeuronRoutes(backend, maps).routes(),
                  new HeadRoutes(backend).routes(),
                  new StateRoutes(backend, settings.version).routes())
              .flatMap(List::stream)
              .toList();
      return new Server(backend, new Front(address, routes, keys, adminKeys, log));
    } catch (IOException | RuntimeException e) {
      backend.engine().close(Duration.ZERO);
      throw e;
    }
  }

  /** Where it listens. */
  public InetSocketAddress address() {
    return front.address();
  }

  /**
   * Ends it: from now on it refuses requests (503, {@code /health} too), and answers those that it
   * has taken.
   *
   * @param patience after which those that are left end with what they have, {@code "abort"}
   */
  public void close(Duration patience) {
    backend.drain();
    backend.engine().close(patience);
    front.close();
    backend.captures().close();
  }

  /** Ends it at once. */
  @Override
  public void close() {
    close(Duration.ZERO);
  }
}
