package dev.halter.concepts;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.concepts.Partition.Concept;
import dev.halter.files.BadFileException;
import dev.halter.generation.Answer;
import dev.halter.sparse.ConceptScores;
import dev.halter.text.Chat;
import dev.halter.text.ChatServer;
import dev.halter.text.ChatServer.Asked;
import dev.halter.text.ChatServer.Reply;
import dev.halter.text.Endpoint;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class PartitionTest {
  private static final String KEY = "sk-very-secret-0123";
  private static final Map<String, String> SCORES =
      Map.of("harm", "0.97", "kind, gentle", "-0.84", "stone", "0", "murder", " 1.0\n");

  @TempDir Path folder;
  private Path table;

  @BeforeEach
  void nameTable() {
    table = folder.resolve("scores.csv");
  }

  private static Reply score(Asked asked) {
    return Reply.of(SCORES.get(asked.concept()));
  }

  private Partition.Outcome score(Function<Asked, Reply> answers, String... concepts)
      throws IOException {
    try (ChatServer server = new ChatServer(answers)) {
      return score(server, "harm", "m", 2, concepts);
    }
  }

  private Partition.Outcome score(
      ChatServer server, String task, String name, int parallel, String... concepts) {
    Endpoint.Settings settings =
        new Endpoint.Settings(server.url(), name, KEY, "{\"temperature\": 0.5}", parallel, 2);
    try (Chat model = new Endpoint(settings, Duration.ofMillis(1))) {
      return new Partition(concepts(concepts), task, model).score(table, done -> {});
    }
  }

  private static List<Concept> concepts(String... names) {
    return List.of(names).stream().map(name -> new Concept(name, List.of())).toList();
  }

  @Test
  void everyConceptIsAskedForOnceAndItsScoreStandsInTheTable() throws IOException {
    try (ChatServer server = new ChatServer(PartitionTest::score)) {
      Partition.Outcome outcome =
          score(server, "harm", "m", 3, "harm", "kind, gentle", "stone", "murder", "harm");
      assertEquals(List.of("murder", "harm", "stone", "kind, gentle"), outcome.scores().top(9));
      assertEquals("harm", outcome.scores().task());
      assertTrue(outcome.unscored().isEmpty());
      assertEquals(List.of("harm", "kind, gentle", "murder", "stone"), server.concepts());
      Asked asked = server.asked().getFirst();
      assertEquals("/v1/chat/completions", asked.path());
      assertEquals("Bearer " + KEY, asked.authorization());
      assertEquals("m", asked.body().get("model").asText());
      assertEquals(0.5, asked.body().get("temperature").asDouble());
      assertEquals("user", asked.body().get("messages").get(0).get("role").asText());
    }
    // Other commands read the table like one that people made.
    ConceptScores read = ConceptScores.readCsv(table, "harm");
    assertEquals(-0.84, read.concepts().getLast().score());
    assertEquals("kind, gentle", read.concepts().getLast().concept());
    assertFalse(Files.readString(table).contains(KEY));
  }

  @Test
  void whatMayPassIsAskedAgain() throws IOException {
    AtomicInteger count = new AtomicInteger();
    List<Reply> troubles =
        List.of(
            new Reply(429, "{\"error\": {\"message\": \"slow down\"}}", Map.of("Retry-After", "0")),
            new Reply(0, "", Map.of()));
    Partition.Outcome outcome =
        score(
            asked -> {
              int turn = count.getAndIncrement();
              return turn < troubles.size() ? troubles.get(turn) : score(asked);
            },
            "harm");
    assertEquals(3, count.get());
    assertEquals(0.97, outcome.scores().concepts().getFirst().score());
  }

  @Test
  void aServerThatFailsForeverIsGivenUpAndWhatWasAnsweredStays() throws IOException {
    try (ChatServer server =
        new ChatServer(
            asked ->
                asked.concept().equals("stone")
                    ? new Reply(500, "out of order", Map.of())
                    : score(asked))) {
      String error =
          assertThrows(RuntimeException.class, () -> score(server, "harm", "m", 1, "harm", "stone"))
              .getMessage();
      assertTrue(error.contains("status 500: out of order"), error);
      assertTrue(error.contains("asked 3 times"), error);
      assertEquals(List.of("harm", "stone", "stone", "stone"), server.concepts());
    }
    assertEquals(List.of("harm"), ConceptScores.readCsv(table, "").top(1));
    // The next run asks for the rest alone, whatever a kill left of the last row.
    Files.writeString(table, Files.readString(table) + "\"murder\",0.");
    try (ChatServer server = new ChatServer(PartitionTest::score)) {
      Partition.Outcome outcome = score(server, "harm", "m", 1, "harm", "stone", "murder");
      assertEquals(List.of("murder", "stone"), server.concepts());
      assertEquals(List.of("murder", "harm", "stone"), outcome.scores().top(3));
      assertEquals(1, outcome.before());
      score(server, "harm", "m", 1, "stone");
      assertEquals(2, server.asked().size());
    }
    assertEquals(4, Files.readAllLines(table).size());
  }

  @Test
  void anAnswerThatIsNoNumberIsAskedForAgainAndThenLeftOut() throws IOException {
    List<String> answers =
        new ArrayList<>(List.of("I would say 0.5.", "<think>\n0.1?</think>\n 0.25 "));
    try (ChatServer server =
        new ChatServer(
            asked ->
                asked.concept().equals("harm")
                    ? Reply.of(answers.removeFirst())
                    : Reply.of(asked.messages() == 1 ? "" : "1.5"))) {
      Partition.Outcome outcome = score(server, "harm", "m", 2, "harm", "stone");
      assertEquals(List.of(new ConceptScores.Scored("harm", 0.25)), outcome.scores().concepts());
      assertEquals(Map.of("stone", "answered \"1.5\""), outcome.unscored());
      assertEquals(List.of("harm", "harm", "stone", "stone", "stone"), server.concepts());
      Asked again =
          server.asked().stream()
              .filter(asked -> asked.concept().equals("harm") && asked.messages() > 1)
              .findFirst()
              .orElseThrow();
      assertEquals(3, again.messages());
      assertEquals("I would say 0.5.", again.body().get("messages").get(1).get("content").asText());
    }
  }

  @Test
  void aRequestThatIsRefusedCostsItsOwnConceptUnlessAllAre() throws IOException {
    Reply filtered = Reply.of(400, Map.of("error", Map.of("message", "content filter")));
    Partition.Outcome outcome =
        score(
            asked -> asked.concept().equals("murder") ? filtered : score(asked), "murder", "harm");
    assertEquals(Map.of("murder", "refused with status 400: content filter"), outcome.unscored());
    assertEquals(List.of("harm"), outcome.scores().top(1));
    Files.delete(table);
    String[] many = new String[500];
    for (int i = 0; i < many.length; i++) {
      many[i] = "c" + i;
    }
    AtomicInteger count = new AtomicInteger();
    assertThrows(
        IllegalArgumentException.class,
        () ->
            score(
                asked -> {
                  count.incrementAndGet();
                  return filtered;
                },
                many));
    assertTrue(count.get() < 100, count + " requests");
  }

  @Test
  void aKeyThatIsRefusedIsToldAtOnceAndNeverShown() throws IOException {
    try (ChatServer server =
        new ChatServer(asked -> new Reply(401, "Incorrect key: " + KEY + ".", Map.of()))) {
      String error =
          assertThrows(RuntimeException.class, () -> score(server, "harm", "m", 1, "harm"))
              .getMessage();
      assertTrue(error.contains("refuses the API key (status 401: Incorrect key: ….)"), error);
      assertEquals(1, server.asked().size());
    }
    assertFalse(new Endpoint.Settings("http://x", "m", KEY, "{}", 1, 1).toString().contains(KEY));
    String broken =
        assertThrows(IllegalArgumentException.class, () -> endpoint("http://x", "a\nb"))
            .getMessage();
    assertFalse(broken.contains("a\nb"), broken);
  }

  @Test
  void whatIsNoSuchInterfaceIsToldAtOnce() throws IOException {
    Map<Reply, String> replies =
        Map.of(
            new Reply(200, "<html>hello</html>", Map.of()),
            "no chat completion",
            Reply.of(200, Map.of("choices", List.of())),
            "no chat completion",
            new Reply(404, "", Map.of()),
            "no such path",
            new Reply(302, "", Map.of("Location", "http://127.0.0.1:1/")),
            "status 302",
            new Reply(503, "", Map.of("Retry-After", "3600")),
            "asks to come back in 3,600 s");
    for (Map.Entry<Reply, String> reply : replies.entrySet()) {
      try (ChatServer server = new ChatServer(asked -> reply.getKey())) {
        String error =
            assertThrows(RuntimeException.class, () -> score(server, "harm", "m", 1, "harm"))
                .getMessage();
        assertTrue(error.contains(reply.getValue()), error);
        assertTrue(error.startsWith(server.url()), error);
        assertEquals(1, server.asked().size(), error);
      }
    }
    try (Chat nowhere = endpoint("http://no-such-host.invalid/v1", "")) {
      String error =
          assertThrows(
                  RuntimeException.class,
                  () -> new Partition(concepts("a"), "t", nowhere).score(table, done -> {}))
              .getMessage();
      assertTrue(error.contains("unknown host"), error);
    }
  }

  private static Chat endpoint(String url, String key) {
    return new Endpoint(new Endpoint.Settings(url, "m", key, "{}", 1, 0), Duration.ofMillis(1));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"localhost:8000", "ftp://x/v1", "http:///v1", "http://me:word@x/v1", "a b", ""})
  void whatIsNoUrlIsRefused(String url) {
    String error =
        assertThrows(IllegalArgumentException.class, () -> endpoint(url, "")).getMessage();
    assertTrue(error.contains("must be a URL"), error);
  }

  @Test
  void aTableOfAnotherTaskModelOrPromptIsRefused() throws IOException {
    try (ChatServer server = new ChatServer(PartitionTest::score)) {
      score(server, "harm", "m", 1, "harm");
      String before = Files.readString(table);
      assertTrue(refused(() -> score(server, "fun", "m", 1, "harm")).contains("task \"harm\""));
      assertTrue(refused(() -> score(server, "harm", "n", 1, "harm")).contains("model \"m\""));
      assertTrue(
          refused(
                  () -> {
                    try (Chat model = endpoint(server.url(), "")) {
                      List<Concept> texts = List.of(new Concept("harm", List.of("You do harm.")));
                      new Partition(texts, "harm", model).score(table, done -> {});
                    }
                  })
              .contains("another prompt for \"harm\""));
      assertEquals(before, Files.readString(table));
      Files.writeString(table, "concept,score\nharm,1\n");
      assertTrue(refused(() -> score(server, "harm", "m", 1, "harm")).contains("is no table"));
      assertEquals(1, server.asked().size());
    }
  }

  private static String refused(Runnable run) {
    return assertThrows(BadFileException.class, run::run).getMessage();
  }

  @Test
  void textsOfAConceptGoIntoItsPrompt() throws IOException {
    Path stimuli = folder.resolve("stimuli.jsonl");
    Files.writeString(
        stimuli,
        """
        {"concept": "harm", "text": "You\\nhit it."}
        {"concept": "harm", "text": "You break it."}
        """);
    List<String> prompts = new ArrayList<>();
    Chat model =
        new Chat() {
          @Override
          public String name() {
            return "m";
          }

          @Override
          public void ask(
              List<List<dev.halter.text.Message>> conversations,
              java.util.function.Consumer<Answer> heard) {
            prompts.add(conversations.getFirst().getFirst().content());
            heard.accept(new Answer(0, "1", null));
          }

          @Override
          public void close() {}
        };
    new Partition(Partition.read(stimuli), "detect harm", model).score(table, done -> {});
    assertTrue(
        prompts
            .getFirst()
            .endsWith(
                "\n\nTask: detect harm\nConcept: harm\nIt occurs in: You hit it.\n"
                    + "It occurs in: You break it.\nScore:"),
        prompts.getFirst());
  }

  @Test
  void conceptsAreReadFromLinesAndLists() throws IOException {
    Path file = folder.resolve("concepts.txt");
    for (String text :
        List.of("harm\n\n kind, gentle \nharm\n", "['harm', \"kind, gentle\", 'harm']")) {
      Files.writeString(file, text);
      assertEquals(
          List.of("harm", "kind, gentle"),
          Partition.read(file).stream().map(Concept::name).toList());
    }
    for (String text : List.of("", "\n", "[", "[]", "['a\\nb']", "{}")) {
      Files.writeString(file, text);
      assertThrows(IllegalArgumentException.class, () -> Partition.read(file), text);
    }
  }
}
