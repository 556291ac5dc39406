package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.golden;
import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.parse;
import static dev.halter.cli.CommandLineRun.process;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.ProcessBuilder.Redirect;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What commands write: where it may go, when that is looked at, and what a signal leaves. */
@Timeout(300)
class OutputsTest {
  private final Path model = golden("llama3").resolve("model");

  private static final Path STIMULI = Path.of("src/main/models/demo/concepts/stimuli.jsonl");

  @TempDir Path folder;

  @Test
  void outputsAreCheckedBeforeTheWork() throws IOException {
    Path in = input(1, 4);
    Path none = folder.resolve("none");
    List<Object[]> commands =
        List.of(
            new Object[] {"map", "--out", none.resolve("x")},
            new Object[] {"map", "--export", none.resolve("x.csv")},
            new Object[] {"map", "--html", none.resolve("x.html")},
            new Object[] {"batch", "--in", in, "--out", none.resolve("x")},
            new Object[] {"capture", "--in", in, "--sites", "logits", "--out", none.resolve("x")},
            new Object[] {"heads", "patch", "--pairs", "no", "--out", none.resolve("x")},
            new Object[] {"heads", "grid", "--pairs", "no", "--out", none.resolve("x")},
            new Object[] {"heads", "picture", "no", "--out", none.resolve("x")},
            new Object[] {"heads", "pairs", "arithmetic", "--out", none.resolve("x")},
            new Object[] {
              "heads", "attention", "--pairs", "no", "--heads", "0.1", "--html", none.resolve("x")
            },
            new Object[] {
              "heads", "attention", "--pairs", "no", "--heads", "0.1", "--out", none.resolve("x")
            },
            new Object[] {
              "dose",
              "--neuron",
              "0.0",
              "--values",
              "1",
              "--prompt",
              "a",
              "--token",
              "a",
              "--out",
              none.resolve("x")
            },
            new Object[] {
              "heads",
              "fit",
              "--positive",
              "no",
              "--negative",
              "no",
              "--heads",
              "0.1",
              "--out",
              none.resolve("x")
            },
            new Object[] {
              "heads", "combine", "--controls", "no", "--effects", "no", "--out", none.resolve("x")
            },
            new Object[] {"concepts", "partition", "--scores", "no", "--out", none.resolve("x")},
            new Object[] {
              "concepts",
              "decompose",
              "--dictionary",
              "no",
              "--vectors",
              "no",
              "--out",
              none.resolve("x")
            },
            new Object[] {
              "concepts", "build", "--stimuli", "no", "--layers", "0..1", "--out", none.resolve("x")
            });
    for (Object[] command : commands) {
      String error = halter(command).error(1);
      assertTrue(error.contains("there is no folder " + none), error);
      assertTrue(error.contains(none + "/x"), error);
    }
    Object[] same = {"capture", "--in", in, "--sites", "logits", "--out", in};
    assertTrue(halter(same).error(2).contains("--in and --out are the same file, " + in));
    String error = halter("map", "--out", folder).error(1);
    assertTrue(error.contains(folder + ": cannot be written: it is a folder"), error);
  }

  /** A concept that no token stands for is refused before the map is made, and leaves nothing. */
  @Test
  void conceptsOfAPageAreCheckedBeforeTheWork() {
    Path out = folder.resolve("map.safetensors");
    Object[] map = {
      "map",
      "--out",
      out,
      "--html",
      folder.resolve("x.html"),
      "--concept",
      "no such token at all",
      "--prompt",
      "a"
    };
    String error = halter(map).error(1);
    assertTrue(error.contains("no such token at all"), error);
    assertTrue(Files.notExists(out));
  }

  @Test
  void contextBeyondTheModelIsSaid() {
    CommandLineRun info = halter("info", "--context", 100_000_000);
    assertEquals(0, info.code());
    assertTrue(info.err().contains("--context 100000000 is cut to the "), info.err());
    String many = "dog ".repeat(2000);
    CommandLineRun run = halter("generate", "--prompt", many, "--context", 6000);
    assertEquals(1, run.code());
    assertTrue(run.err().contains("the model has no more positions"), run.err());
    String error = halter("generate", "--prompt", many, "--context", 16).error(1);
    assertTrue(error.contains("at most 16 fit: --context takes up to "), error);
  }

  @Test
  void pipesAndDevicesTakeWhatFilesTake() throws Exception {
    Path in = input(2, 4);
    Path dump = folder.resolve("dump.safetensors");
    Object[] capture = {"capture", "--model", model, "--in", in, "--sites", "logits", "--out"};
    assertEquals(0, halter(append(capture, dump)).code());
    assertArrayEquals(Files.readAllBytes(dump), throughPipe(capture));

    Path results = folder.resolve("results.jsonl");
    Object[] batch = {"batch", "--model", model, "--in", in, "--max-tokens", 2, "--out"};
    assertEquals(0, halter(append(batch, results)).code());
    assertArrayEquals(Files.readAllBytes(results), throughPipe(batch));
    assertEquals(0, halter(append(batch, "/dev/null")).code());
    String full = halter(append(batch, "/dev/full")).error(1);
    assertTrue(full.contains("/dev/full: cannot be written: no space left on device"), full);
  }

  /** Results alone, whatever standard output is; the words about them are on standard error. */
  @Test
  void standardOutputTakesResultsAlone() throws Exception {
    Path in = input(2, 4);
    Path results = folder.resolve("results.jsonl");
    Object[] batch = {"batch", "--model", model, "--in", in, "--max-tokens", 2, "--out"};
    assertEquals(0, halter(append(batch, results)).code());
    for (String name : List.of("/dev/stdout", "/dev/fd/1")) {
      ProcessBuilder builder =
          process(append(batch, name)).redirectError(folder.resolve("err").toFile());
      Process piped = builder.start();
      assertArrayEquals(Files.readAllBytes(results), piped.getInputStream().readAllBytes(), name);
      assertEquals(0, piped.waitFor());
      Path file = Files.writeString(folder.resolve("out"), "before\n");
      Process filed = builder.redirectOutput(Redirect.appendTo(file.toFile())).start();
      assertEquals(0, filed.waitFor(), Files.readString(folder.resolve("err")));
      assertEquals("before\n" + Files.readString(results), Files.readString(file));
      assertTrue(Files.readString(folder.resolve("err")).contains("2 lines: 2 answered"));
    }
  }

  @Test
  void separatorsOfLinesAreEscapedInResults() throws IOException {
    Path in =
        Files.writeString(
            folder.resolve("in.jsonl"), "{\"id\":\"a\u2028b\u2029c\\nd\",\"tokens\":[5]}\n");
    Path out = folder.resolve("out.jsonl");
    assertEquals(
        0, halter("batch", "--model", model, "--in", in, "--out", out, "--max-tokens", 1).code());
    String text = Files.readString(out);
    assertTrue(text.startsWith("{\"id\":\"a\\u2028b\\u2029c\\nd\""), text);
    assertEquals("a\u2028b\u2029c\nd", parse(text).get("id").asText());
  }

  /** A capture that a signal ends leaves nothing; what a kill leaves is gone after the next one. */
  @Test
  void nothingTemporaryStays() throws Exception {
    Path in = input(400, 300);
    Path dump = folder.resolve("dump.safetensors");
    Object[] capture = {"capture", "--model", model, "--in", in, "--sites", "all", "--out", dump};
    Process ended = startAndWaitForTemporary(capture);
    ended.destroy(); // SIGTERM
    ended.waitFor();
    assertEquals(0, temporary(), "after SIGTERM");

    Process killed = startAndWaitForTemporary(capture);
    killed.destroyForcibly().waitFor();
    assertEquals(1, temporary(), "after a kill");
    Path few = Files.writeString(folder.resolve("few.jsonl"), "{\"id\":1,\"tokens\":[5]}\n");
    assertEquals(
        0,
        halter("capture", "--model", model, "--in", few, "--sites", "logits", "--out", dump)
            .code());
    assertEquals(0, temporary(), "after the next run");
  }

  /** In processes of their own, since Java orders some sets and maps anew in each. */
  @Test
  void theSameInputGivesTheSameBytes() throws Exception {
    for (List<Object> command :
        List.of(
            List.<Object>of("map", "--top", 2),
            List.<Object>of(
                "concepts", "build", "--stimuli", STIMULI, "--layers", "1..1", "--limit", 5))) {
      List<byte[]> written = new ArrayList<>();
      for (String name : List.of("first", "second", "third")) {
        Path out = folder.resolve(command.getFirst() + name + ".safetensors");
        List<Object> arguments = new ArrayList<>(command);
        arguments.addAll(List.of("--out", out));
        ProcessBuilder builder =
            process(arguments.toArray()).redirectError(folder.resolve("err").toFile());
        builder.redirectOutput(ProcessBuilder.Redirect.DISCARD);
        assertEquals(0, builder.start().waitFor(), Files.readString(folder.resolve("err")));
        written.add(Files.readAllBytes(out));
      }
      assertArrayEquals(written.get(0), written.get(1), command.toString());
      assertArrayEquals(written.get(0), written.get(2), command.toString());
    }
  }

  /** Digits, commas and titles are the same for every user. */
  @Test
  void outputIsTheSameInEveryLocale() throws Exception {
    Path plain = page("plain", "-Duser.language=en");
    for (String locale :
        List.of("ar -Duser.country=EG", "de -Duser.country=DE", "tr", "hi-u-nu-deva")) {
      Path other = page("other", "-Duser.language=" + locale);
      assertEquals(Files.readString(plain), Files.readString(other), locale);
    }
  }

  private Path page(String name, String locale) throws Exception {
    Path page = folder.resolve(name + ".html");
    Path out = folder.resolve(name + ".txt");
    ProcessBuilder builder =
        process("map", "--html", page, "--top", 2)
            .redirectOutput(out.toFile())
            .redirectError(folder.resolve("err").toFile());
    builder.environment().put("JAVA_TOOL_OPTIONS", locale);
    assertEquals(0, builder.start().waitFor(), Files.readString(folder.resolve("err")));
    String text = Files.readString(out);
    assertTrue(text.matches("(?s)[\\d,]+ neurons of up_proj mapped in \\d+\\.\\d\\d s.*"), text);
    return page;
  }

  private Process startAndWaitForTemporary(Object... command) throws Exception {
    Process process =
        process(command)
            .redirectErrorStream(true)
            .redirectOutput(folder.resolve("log").toFile())
            .start();
    while (process.isAlive() && temporary() == 0) {
      Thread.sleep(2);
    }
    assertTrue(process.isAlive(), () -> "ended early");
    return process;
  }

  private long temporary() throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.filter(file -> file.toString().endsWith(".tmp")).count();
    }
  }

  private byte[] throughPipe(Object... command) throws Exception {
    Path pipe = folder.resolve("pipe");
    assertEquals(0, new ProcessBuilder("mkfifo", pipe.toString()).start().waitFor());
    CompletableFuture<byte[]> read =
        CompletableFuture.supplyAsync(
            () -> {
              try {
                return Files.readAllBytes(pipe);
              } catch (IOException e) {
                throw new AssertionError(e);
              }
            });
    CommandLineRun run = halter(append(command, pipe));
    assertEquals(0, run.code(), run.err());
    Files.delete(pipe);
    return read.get();
  }

  private static Object[] append(Object[] command, Object last) {
    return Stream.concat(Stream.of(command), Stream.of(last)).toArray();
  }

  private Path input(int lines, int tokens) throws IOException {
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < lines; i++) {
      text.append(
          "{\"id\":\"p%d\",\"tokens\":[%d%s]}\n".formatted(i, i % 100, ",7".repeat(tokens - 1)));
    }
    return Files.writeString(folder.resolve("in.jsonl"), text);
  }
}
