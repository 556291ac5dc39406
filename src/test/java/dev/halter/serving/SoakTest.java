package dev.halter.serving;

import static dev.halter.serving.TestServer.setup;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.Json;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.function.LongSupplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;

/** A server among many clients, of whom few behave. */
@Timeout(300)
class SoakTest {
  private static final String KEY = "sesame";
  private static final int CLIENTS = 64;
  private static final int BATCH = 16;
  private static final int QUEUE = 48; // less than the clients can fill
  private static final int CASES = 60;
  private static final int WINDOWS = 9; // of the time, of which memory is told
  private static final int WARM = 3; // of them, in which Java still compiles
  private static final double FLAT = 0.05;

  @TempDir Path folder;

  private Path key() throws Exception {
    return Files.writeString(folder.resolve("key"), KEY);
  }

  @Test
  void nothingIsLostDoubledOrStuck() throws Exception {
    try (TestServer server = setup().adminKeys(key()).batch(BATCH).queue(QUEUE).start()) {
      Soak soak = new Soak(server.address(), KEY, 7);
      soak.learn(30);
      soak.run(CLIENTS, Duration.ofSeconds(10), () -> 0);
      Soak.Sample idle = soak.idle(() -> 0);
      assertEquals(List.of(), soak.failures());
      Map<String, Long> counts = soak.counts();
      for (String what :
          List.of(
              "answered",
              "streamed",
              "streamed to a slow reader",
              "left in a stream",
              "left before an answer",
              "refused, for it was nonsense",
              "refused, for the queue was full",
              "loaded a plan")) {
        assertTrue(counts.getOrDefault(what, 0L) > 0, what + " is not among " + counts);
      }
      assertTrue(soak.samples().stream().anyMatch(each -> each.pages() > 0));
      assertEquals(0, idle.running() + idle.waiting() + idle.pages(), idle.toString());
      assertEquals(0, server.get("/load").ok().get("server_load").asInt());
    }
  }

  /**
   * What {@code bench/soak} runs: {@code halter serve} in a process of its own, for long; at the
   * end it is killed among its clients and started again.
   */
  @Test
  @Timeout(7200)
  @EnabledIfSystemProperty(named = "halter.soak.seconds", matches = "\\d+")
  void aServerOfItsOwnHoldsForLong() throws Exception {
    Duration length = Duration.ofSeconds(Long.getLong("halter.soak.seconds"));
    Path key = key();
    ServerProcess server = ServerProcess.start(key, 0);
    try {
      Soak soak = new Soak(server.address(), KEY, 11);
      soak.learn(CASES);
      soak.run(CLIENTS, length, server::bytes);
      Soak.Sample idle = soak.idle(server::bytes);
      Map<String, Long> counts = soak.counts();
      List<Soak.Sample> samples = List.copyOf(soak.samples());
      List<Long> bytes = windows(samples);
      List<Long> warm = bytes.subList(WARM, WINDOWS);
      double growth = (double) Collections.max(warm) / Collections.min(warm) - 1;

      Thread clients =
          Thread.ofVirtual().start(() -> runUnchecked(soak, Duration.ofSeconds(20), () -> 0));
      Thread.sleep(5000);
      soak.mayBeAway(true);
      server.kill();
      server = ServerProcess.start(key, server.address().getPort());
      Thread.sleep(500);
      soak.mayBeAway(false);
      clients.join();
      Soak.Sample idleAgain = soak.idle(() -> 0);
      long lost = soak.counts().getOrDefault(Soak.LOST, 0L);

      Map<String, Object> result =
          Json.object(
              "seconds", length.toSeconds(),
              "clients", CLIENTS,
              "max_batch", BATCH,
              "max_queue", QUEUE,
              "counts", counts,
              "failures", soak.failures(),
              "bytes", bytes,
              "growth", growth,
              "pages_most", samples.stream().mapToDouble(Soak.Sample::pages).max().orElse(0),
              "idle", told(idle),
              "killed",
                  Json.object("lost", lost, "counts", soak.counts(), "idle", told(idleAgain)));
      Files.writeString(Path.of(System.getProperty("halter.soak.out")), Json.text(result) + "\n");
      assertEquals(List.of(), soak.failures());
      for (Soak.Sample each : List.of(idle, idleAgain)) {
        assertEquals(0, each.running() + each.waiting() + each.pages(), each.toString());
      }
      assertTrue(lost <= CLIENTS, lost + " were lost of " + CLIENTS);
      assertTrue(soak.counts().get("answered") > counts.get("answered"), "and it has served on");
      assertTrue(growth <= FLAT, "memory by time: " + bytes);
    } finally {
      server.kill();
    }
  }

  private static void runUnchecked(Soak soak, Duration length, LongSupplier memory) {
    try {
      soak.run(CLIENTS, length, memory);
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  private static Map<String, Object> told(Soak.Sample sample) {
    return Json.object(
        "running", sample.running(), "waiting", sample.waiting(), "pages", sample.pages());
  }

  /** Medians of the memory, of equal parts of the time. */
  private static List<Long> windows(List<Soak.Sample> samples) {
    List<Long> medians = new ArrayList<>();
    for (int i = 0; i < WINDOWS; i++) {
      List<Long> window =
          samples.subList(i * samples.size() / WINDOWS, (i + 1) * samples.size() / WINDOWS).stream()
              .map(Soak.Sample::bytes)
              .sorted()
              .toList();
      medians.add(window.get(window.size() / 2));
    }
    return medians;
  }

  /** A {@code halter serve}. */
  private record ServerProcess(Process process, InetSocketAddress address) {
    static ServerProcess start(Path key, int port) throws IOException {
      Process process =
          new ProcessBuilder(
                  "./halter",
                  "serve",
                  "--device",
                  "cpu",
                  "--port",
                  Integer.toString(port),
                  "--plans",
                  TestServer.PLANS.toString(),
                  "--admin-key-file",
                  key.toString(),
                  "--max-batch",
                  Integer.toString(BATCH),
                  "--max-queue",
                  Integer.toString(QUEUE))
              .start();
      BufferedReader said = process.errorReader();
      for (String line = said.readLine(); line != null; line = said.readLine()) {
        if (line.startsWith("serving on ")) {
          Thread.ofVirtual().start(() -> said.lines().forEach(rest -> {})); // or it would block
          URI at = URI.create(line.substring("serving on ".length()));
          return new ServerProcess(process, new InetSocketAddress(at.getHost(), at.getPort()));
        }
      }
      throw new IOException("halter serve ended before it served");
    }

    /** Memory that it takes, of RAM. */
    long bytes() {
      try (Stream<String> lines = Files.lines(Path.of("/proc/" + process.pid() + "/status"))) {
        String line = lines.filter(each -> each.startsWith("VmRSS:")).findFirst().orElseThrow();
        return 1024 * Long.parseLong(line.replaceAll("\\D", ""));
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }

    /** As {@code kill -9} does. */
    void kill() {
      process.destroyForcibly().onExit().join();
    }
  }
}
