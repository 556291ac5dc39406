package dev.halter.serving;

import static dev.halter.files.Json.object;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.cli.CommandLineRun;
import dev.halter.files.Json;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.LongSupplier;

/**
 * Many clients that ask a server of the demo model for whatever comes to their minds, go when they
 * like, read slowly, send nonsense, load and unload plans. What each is answered is compared with
 * what the server said when nobody else asked: lost, mixed up and doubled answers all show.
 *
 * <p>All draws come from a seed; which of them meet is up to the machine.
 */
final class Soak {
  private static final int VOCABULARY = 2340;
  private static final int COMMON = 130; // tokens with which half of the prompts begin
  private static final int MOST_TOKENS = 80;
  private static final int NAMES = 4; // of plans that come and go
  private static final int MOST_FAILURES = 20;

  /** What is counted of clients whose connection broke while the server might be away. */
  static final String LOST = "lost with the server";

  private static final Duration PATIENCE = Duration.ofSeconds(60);

  private final InetSocketAddress address;
  private final String adminKey;
  private final long seed;
  private final List<Case> cases = new ArrayList<>();
  private final Map<String, LongAdder> counts = new ConcurrentSkipListMap<>();
  private final Queue<String> failures = new ConcurrentLinkedQueue<>();
  private final List<Sample> samples = new ArrayList<>();
  private volatile boolean isOver;
  private volatile boolean mayBeAway; // the server was killed, or is about to be

  /**
   * A request whose answer is known.
   *
   * @param name of the plan that may come and go, or null
   * @param answers one, or that of each plan that may have the name
   */
  private record Case(Map<String, Object> body, String name, List<Answer> answers) {}

  /**
   * What is compared: tokens, their text, and how many of them each intervention edited. Bytes that
   * are no characters may look otherwise in a stream, which decodes less at a time.
   */
  private record Answer(List<Integer> ids, String text, String finish, List<Integer> edited) {
    Answer {
      text = text.replace("\uFFFD", "");
    }
  }

  /**
   * What the server said of itself at a time, and how much memory it took.
   *
   * @param pages share of the cache's pages that requests hold
   */
  record Sample(double seconds, long bytes, double running, double waiting, double pages) {}

  /** Clients of a server that loads plans for whoever shows the key. */
  Soak(InetSocketAddress address, String adminKey, long seed) {
    this.address = address;
    this.adminKey = adminKey;
    this.seed = seed;
  }

  private HttpConnection connect(boolean isSlow) throws IOException {
    return new HttpConnection(address, PATIENCE, isSlow);
  }

  private void count(String what) {
    counts.computeIfAbsent(what, key -> new LongAdder()).increment();
  }

  private void fail(String what) {
    if (failures.size() < MOST_FAILURES) {
      failures.add(what);
    }
  }

  // ---- cases

  private static Map<String, Object> clamp(Random random, int value) {
    return object(
        "op",
        "neuron_clamp",
        "site",
        "blocks.%d.mlp.hook_pre_linear".formatted(random.nextInt(4)),
        "neurons",
        List.of(random.nextInt(768)),
        "value",
        value);
  }

  private static Object variant(int name, int variant) {
    Random random = new Random(100 + name);
    return object("interventions", List.of(clamp(random, variant == 0 ? -25 : 40)));
  }

  /** Draws requests and asks for each while nothing else runs. */
  void learn(int count) throws IOException {
    Random random = new Random(seed);
    int[] common = random.ints(COMMON, 3, VOCABULARY).toArray();
    try (HttpConnection quiet = connect(false)) {
      for (int i = 0; i < count; i++) {
        boolean shares = random.nextBoolean();
        int own = 1 + random.nextInt(shares ? 40 : 250);
        List<Integer> prompt = new ArrayList<>();
        if (shares) {
          Arrays.stream(common).forEach(prompt::add);
        }
        random.ints(own, 3, VOCABULARY).forEach(prompt::add);
        Map<String, Object> body =
            object(
                "prompt",
                prompt,
                "max_tokens",
                1 + random.nextInt(MOST_TOKENS),
                "temperature",
                0,
                "ignore_eos",
                random.nextBoolean(),
                "return_token_ids",
                true);
        cases.add(learn(quiet, body, random, i));
      }
    }
  }

  private Case learn(HttpConnection quiet, Map<String, Object> body, Random random, int number)
      throws IOException {
    if (number % 3 == 0) { // a plan that comes and goes
      int name = random.nextInt(NAMES);
      List<Answer> answers = new ArrayList<>();
      for (int variant = 0; variant < 2; variant++) {
        answers.add(quietly(quiet, body, variant(name, variant)));
      }
      body.put("plan", "r" + name);
      return new Case(body, "r" + name, answers);
    }
    Object plan =
        switch (random.nextInt(4)) {
          case 0 -> null;
          case 1 -> "dogs";
          case 2 -> "no-sums";
          default -> {
            Map<String, Object> edit = clamp(random, random.nextInt(-40, 40));
            if (random.nextBoolean()) {
              edit.put("when", object("generation", "all", "prompt_positions", List.of(-1)));
            }
            yield object("interventions", List.of(edit));
          }
        };
    Answer answer = quietly(quiet, body, plan);
    if (plan != null) {
      body.put("plan", plan);
    }
    return new Case(body, null, List.of(answer));
  }

  private static Answer quietly(HttpConnection quiet, Map<String, Object> body, Object plan)
      throws IOException {
    Map<String, Object> asked = object();
    asked.putAll(body);
    if (plan != null) {
      asked.put("plan", plan);
    }
    quiet.send("POST", "/v1/completions", Json.text(asked));
    HttpConnection.Reply reply = quiet.reply();
    if (reply.status() != 200) {
      throw new IOException(reply.text());
    }
    return answer(CommandLineRun.parse(reply.text()), 0);
  }

  private static Answer answer(JsonNode document, int index) {
    JsonNode choice = document.get("choices").get(index);
    return new Answer(
        ids(choice.get("token_ids")),
        choice.get("text").asText(),
        choice.get("finish_reason").asText(),
        edited(document.get("halter")));
  }

  private static List<Integer> ids(JsonNode list) {
    List<Integer> ids = new ArrayList<>();
    list.forEach(id -> ids.add(id.asInt()));
    return ids;
  }

  private static List<Integer> edited(JsonNode halter) {
    List<Integer> edited = new ArrayList<>();
    halter.get("report").get("interventions").forEach(e -> edited.add(e.get("tokens").asInt()));
    return edited;
  }

  // ---- clients

  /**
   * Lets clients loose for a time.
   *
   * @param memory bytes that the server takes
   */
  void run(int clients, Duration length, LongSupplier memory) throws InterruptedException {
    isOver = false;
    List<Thread> threads = new ArrayList<>();
    for (int i = 0; i < clients; i++) {
      Random random = new Random(seed * 1000 + i);
      threads.add(Thread.ofVirtual().name("client " + i).start(() -> live(random)));
    }
    long begun = System.nanoTime();
    while (System.nanoTime() - begun < length.toNanos() && failures.isEmpty()) {
      Thread.sleep(Math.min(1000, length.toMillis() / 10));
      sample((System.nanoTime() - begun) * 1e-9, memory);
    }
    isOver = true;
    for (Thread thread : threads) {
      if (!thread.join(PATIENCE.multipliedBy(2))) {
        fail(thread.getName() + " waits for an answer that does not come");
      }
    }
  }

  private void sample(double seconds, LongSupplier memory) {
    if (mayBeAway) {
      return;
    }
    try (HttpConnection watcher = connect(false)) {
      String metrics = watcher.get("/metrics").text();
      samples.add(
          new Sample(
              seconds,
              memory.getAsLong(),
              ErrorsTest.value(metrics, "vllm:num_requests_running"),
              ErrorsTest.value(metrics, "vllm:num_requests_waiting"),
              ErrorsTest.value(metrics, "vllm:kv_cache_usage_perc")));
    } catch (IOException e) {
      fail("/metrics: " + e);
    }
  }

  private void live(Random random) {
    while (!isOver && failures.isEmpty()) {
      boolean isSlow = random.nextInt(12) == 0;
      boolean isThere = false;
      try (HttpConnection connection = connect(isSlow)) {
        isThere = true;
        int requests = 1 + random.nextInt(20);
        for (int i = 0; i < requests && !isOver && connection.isOpen(); i++) {
          act(connection, random, isSlow);
        }
      } catch (IOException | RuntimeException e) {
        if (!mayBeAway) {
          fail("no answer: " + e);
        } else if (isThere) {
          count(LOST);
        }
        pause(50);
      }
    }
  }

  private static void pause(long millis) {
    try {
      Thread.sleep(millis);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private void act(HttpConnection connection, Random random, boolean isSlow) throws IOException {
    int dice = random.nextInt(100);
    if (dice < 44) {
      ask(connection, random, false, 0);
    } else if (dice < 76) {
      ask(connection, random, true, isSlow ? 1 + random.nextInt(20) : 0);
    } else if (dice < 80) {
      askTwice(connection, random);
    } else if (dice < 84) {
      leaveStream(connection, random);
    } else if (dice < 87) {
      leave(connection, random);
    } else if (dice < 93) {
      misbehave(connection, random);
    } else {
      manage(connection, random);
    }
  }

  private Case draw(Random random) {
    return cases.get(random.nextInt(cases.size()));
  }

  private static String body(Case asked, Object... more) {
    Map<String, Object> body = object();
    body.putAll(asked.body);
    body.putAll(object(more));
    return Json.text(body);
  }

  /** Whether an answer is there; what else may rightly come is counted, and anything else fails. */
  private boolean isAnswered(HttpConnection.Reply reply, Case asked) {
    if (reply.status() == 503 && reply.header("retry-after") != null) {
      count("refused, for the queue was full");
      pause(100);
      return false;
    }
    if (reply.status() == 400 && asked.name != null && reply.text().contains("there is no plan")) {
      count("asked for a plan that was unloaded");
      return false;
    }
    if (reply.status() != 200) {
      fail(reply.status() + ": " + reply.text());
    }
    return reply.status() == 200;
  }

  private void compare(Answer answer, Case asked, String how) {
    if (asked.answers.contains(answer)) {
      count(how);
      counts.computeIfAbsent("tokens", key -> new LongAdder()).add(answer.ids.size());
    } else {
      fail("%s to %s: %s instead of %s".formatted(how, asked.body, answer, asked.answers));
    }
  }

  private void ask(HttpConnection connection, Random random, boolean isStream, int pause)
      throws IOException {
    Case asked = draw(random);
    connection.send("POST", "/v1/completions", body(asked, "stream", isStream));
    if (!isStream) {
      HttpConnection.Reply reply = connection.reply();
      if (isAnswered(reply, asked)) {
        compare(answer(CommandLineRun.parse(reply.text()), 0), asked, "answered");
      }
      return;
    }
    HttpConnection.Head head = connection.head();
    if (!head.isStream()) {
      isAnswered(connection.rest(head), asked);
      return;
    }
    List<Integer> ids = new ArrayList<>();
    StringBuilder text = new StringBuilder();
    List<String> ends = new ArrayList<>();
    List<Integer> edited = null;
    for (String line = connection.line(); line != null; line = connection.line()) {
      if (line.equals("data: [DONE]")) {
        ends.add("done");
      } else if (line.startsWith("data: ")) {
        JsonNode event = CommandLineRun.parse(line.substring(6));
        if (event.has("error")) {
          fail("an error in a stream: " + line);
          return;
        }
        JsonNode choice = event.get("choices").get(0);
        ids.addAll(ids(choice.get("token_ids")));
        text.append(choice.get("text").asText());
        if (!choice.get("finish_reason").isNull()) {
          ends.add(choice.get("finish_reason").asText());
          edited = edited(event.get("halter"));
        }
      }
      pause(pause);
    }
    if (ends.size() != 2 || !ends.getLast().equals("done")) {
      fail("a stream ends " + ends);
      return;
    }
    compare(
        new Answer(ids, text.toString(), ends.getFirst(), edited),
        asked,
        pause > 0 ? "streamed to a slow reader" : "streamed");
  }

  /** Two answers to one prompt, which are the same. */
  private void askTwice(HttpConnection connection, Random random) throws IOException {
    Case asked = draw(random);
    connection.send("POST", "/v1/completions", body(asked, "n", 2));
    HttpConnection.Reply reply = connection.reply();
    if (isAnswered(reply, asked)) {
      JsonNode document = CommandLineRun.parse(reply.text());
      compare(answer(document, 0), asked, "answered");
      compare(answer(document, 1), asked, "answered");
    }
  }

  private void leaveStream(HttpConnection connection, Random random) throws IOException {
    String body = body(draw(random), "stream", true, "max_tokens", 700, "ignore_eos", true);
    connection.send("POST", "/v1/completions", body);
    if (connection.head().isStream()) {
      int lines = random.nextInt(30);
      while (lines > 0 && connection.line() != null) { // some end before that
        lines--;
      }
    }
    count("left in a stream");
    connection.close();
  }

  private void leave(HttpConnection connection, Random random) throws IOException {
    String body = body(draw(random), "max_tokens", 700, "ignore_eos", true);
    connection.send("POST", "/v1/completions", body);
    pause(random.nextInt(300));
    count("left before an answer");
    connection.close();
  }

  private static final List<List<String>> NONSENSE =
      List.of(
          List.of("POST", "/v1/completions", "{", "400"),
          List.of("POST", "/v1/completions", "", "400"),
          List.of("POST", "/v1/completions", "[1, 2]", "400"),
          List.of("POST", "/v1/completions", "{\"prompt\": {\"a\": 1}}", "400"),
          List.of("POST", "/v1/completions", "{\"prompt\": [99999999]}", "400"),
          List.of(
              "POST", "/v1/completions", "{\"prompt\": \"a\", \"temperature\": \"hot\"}", "400"),
          List.of("POST", "/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 5000}", "400"),
          List.of("POST", "/v1/completions", "{\"prompt\": \"a\", \"plan\": \"none\"}", "400"),
          List.of(
              "POST",
              "/v1/completions",
              "{\"prompt\": \"a\", \"plan\": {\"interventions\": 3}}",
              "400"),
          List.of("POST", "/v1/completions", "{\"prompt\": \"a\", \"model\": \"other\"}", "404"),
          List.of("POST", "/v1/chat/completions", "{\"messages\": \"a\"}", "400"),
          List.of("POST", "/v1/nothing", "{}", "404"),
          List.of("GET", "/v1/completions", "", "405"),
          List.of("PUT", "/v1/plans/r0", "{\"interventions\": []}", "401"));

  private void misbehave(HttpConnection connection, Random random) throws IOException {
    int which = random.nextInt(NONSENSE.size() + 2);
    if (which == NONSENSE.size()) {
      connection.write(
          "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{\"pro");
      connection.close();
      count("left in a request");
      return;
    }
    if (which == NONSENSE.size() + 1) {
      connection.write("what is this?\r\n\r\n");
      connection.close();
      count("spoke no HTTP");
      return;
    }
    List<String> nonsense = NONSENSE.get(which);
    connection.send(nonsense.get(0), nonsense.get(1), nonsense.get(2));
    HttpConnection.Reply reply = connection.reply();
    JsonNode error = CommandLineRun.parse(reply.text()).path("error");
    if (reply.status() == Integer.parseInt(nonsense.get(3)) && error.has("message")) {
      count("refused, for it was nonsense");
    } else {
      fail(nonsense + ": " + reply.status() + ": " + reply.text());
    }
  }

  /** Loads and unloads plans, and looks around. */
  private void manage(HttpConnection connection, Random random) throws IOException {
    String admin = "Authorization: Bearer " + adminKey;
    int name = random.nextInt(NAMES);
    String path = "/v1/plans/r" + name;
    int dice = random.nextInt(8);
    if (dice < 5) {
      connection.send("PUT", path, Json.text(variant(name, random.nextInt(2))), admin);
      expect(connection, "loaded a plan", 200, 201);
    } else if (dice < 6) {
      connection.send("DELETE", path, "", admin);
      expect(connection, "unloaded a plan", 200, 404);
    } else {
      String seen = List.of("/v1/models", "/v1/plans", "/health", "/load").get(random.nextInt(4));
      connection.send("GET", seen, "");
      expect(connection, "looked around", 200);
    }
  }

  private void expect(HttpConnection connection, String what, Integer... statuses)
      throws IOException {
    HttpConnection.Reply reply = connection.reply();
    if (List.of(statuses).contains(reply.status())) {
      count(what);
    } else {
      fail(what + ": " + reply.status() + ": " + reply.text());
    }
  }

  // ---- what came of it

  /** The server may be away from now on, or has come back. */
  void mayBeAway(boolean may) {
    mayBeAway = may;
  }

  /** Waits for a server that nobody asks any more to have nothing left; what it has. */
  Sample idle(LongSupplier memory) throws InterruptedException {
    long begun = System.nanoTime();
    Sample last;
    do {
      Thread.sleep(100);
      sample((System.nanoTime() - begun) * 1e-9, memory);
      last = samples.removeLast();
    } while (last.running + last.waiting + last.pages > 0
        && System.nanoTime() - begun < PATIENCE.toNanos());
    return last;
  }

  /** How often what happened. */
  Map<String, Long> counts() {
    Map<String, Long> sums = new TreeMap<>();
    counts.forEach((what, count) -> sums.put(what, count.sum()));
    return sums;
  }

  /** What went wrong, the first of it. */
  List<String> failures() {
    return List.copyOf(failures);
  }

  /** What was seen of the server, about once a second. */
  List<Sample> samples() {
    return samples;
  }
}
