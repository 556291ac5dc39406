package dev.halter.cli;

import dev.halter.generation.AsyncEngine;
import dev.halter.generation.LanguageModel;
import dev.halter.serving.Server;
import dev.halter.steering.SteeringPlan;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

@Command(
    name = "serve",
    description = {
      "Serves the model by OpenAI's HTTP interface, each request steered by its own plan.",
      "A plan comes as the body's field \"plan\" (a name of --plans, or a plan), as the header",
      "X-Halter-Plan: NAME, or as the model MODEL@NAME. SIGTERM lets what runs end, then exits 0."
    })
final class ServeCommand implements Callable<Integer> {
  @Spec CommandSpec spec;
  @Mixin ModelOptions options;

  @Option(
      names = "--host",
      paramLabel = "H",
      defaultValue = "127.0.0.1",
      description = "Name or address to listen at (default: ${DEFAULT-VALUE}, this machine alone).")
  String host;

  @Option(
      names = "--port",
      paramLabel = "N",
      defaultValue = "8000",
      description = "Port to listen at; 0 = any that is free (default: ${DEFAULT-VALUE}).")
  int port;

  @Option(
      names = "--plan",
      paramLabel = "F",
      description = "Steering plan for every request, before the request's own.")
  List<Path> plans = new ArrayList<>();

  @Option(
      names = "--plans",
      paramLabel = "DIR",
      description =
          "Folder of plans that requests may name, NAME.json, and of vectors and dictionaries that"
              + " plans in requests may.")
  Path folder;

  @Option(
      names = "--map",
      paramLabel = "F",
      description =
          "Neuron map of the model, by halter map, for /v1/neurons/search; several of other"
              + " projections or decodings (default: small models' are made when asked for).")
  List<Path> maps = new ArrayList<>();

  @Option(
      names = "--api-key-file",
      paramLabel = "F",
      description = "Keys that clients must show, one a line (default: none is needed).")
  Path apiKeys;

  @Option(
      names = "--admin-key-file",
      paramLabel = "F",
      description =
          "Keys with which plans are loaded and unloaded while it runs (default: they are not).")
  Path adminKeys;

  @Option(
      names = "--max-batch",
      paramLabel = "N",
      defaultValue = "0",
      description = "Most answers at once (default: as suits the device).")
  int maxBatch;

  @Option(
      names = "--max-queue",
      paramLabel = "N",
      defaultValue = "" + AsyncEngine.MAX_WAITING,
      description =
          "Most answers that wait; more are refused with 503 (default: ${DEFAULT-VALUE}).")
  int maxQueue;

  @Option(
      names = "--drain-timeout",
      paramLabel = "S",
      defaultValue = "30",
      description =
          "Seconds for what runs when the server is told to end (default: ${DEFAULT-VALUE}).")
  double drainTimeout;

  @Override
  public Integer call() throws InterruptedException {
    if (port < 0 || port > 65535) {
      throw new WrongUseException("--port is " + port + ", must be 0 to 65535");
    }
    if (maxQueue < 1) {
      throw new WrongUseException("--max-queue is " + maxQueue + ", must be 1 or more");
    }
    if (!(drainTimeout >= 0 && drainTimeout <= 1e9)) {
      throw new WrongUseException("--drain-timeout is " + drainTimeout + ", must be 0 or more");
    }
    try (LanguageModel model = options.open(maxBatch)) {
      SteeringPlan first = SteeringPlan.readAll(plans, model.config());
      Server.Settings settings =
          new Server.Settings(host, port, folder, maps, apiKeys, adminKeys, maxQueue, version());
      Server server = start(model, first, settings);
      Runtime.getRuntime().addShutdownHook(new Thread(() -> end(server), "halter-drain"));
      System.err.println("serving on " + url(server.address()));
      new CountDownLatch(1).await(); // for a signal, which ends Java
      return 0;
    }
  }

  /** Ends Java with code 0 instead of the signal's, since this is how a server ends well. */
  private void end(Server server) {
    System.err.println("halter: no more requests are taken; those that run may end");
    server.close(Duration.ofMillis((long) (1000 * drainTimeout)));
    Runtime.getRuntime().halt(0);
  }

  private String version() {
    return spec.root().version()[0].replace("halter ", "");
  }

  private Server start(LanguageModel model, SteeringPlan first, Server.Settings settings) {
    try {
      return Server.start(model, first, settings, line -> System.err.println("halter: " + line));
    } catch (IOException e) {
      throw new UncheckedIOException(
          "cannot listen at %s, port %d: %s".formatted(host, port, e.getMessage()), e);
    }
  }

  private String url(InetSocketAddress address) {
    String shown = host.contains(":") ? "[" + host + "]" : host;
    return "http://" + shown + ":" + address.getPort();
  }
}
