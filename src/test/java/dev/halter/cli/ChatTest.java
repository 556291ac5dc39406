package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.halter.Demo;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A chat over a pipe, and over a terminal. */
class ChatTest {
  private static final String QUESTION = Demo.QUESTION;
  private static final String DOG = Demo.DOG_ADDRESS;
  private static final String CLAMPED = DOG + "=" + Demo.DOG_VALUE;

  @TempDir Path folder;

  private Path dogs;

  @BeforeEach
  void writePlans() throws IOException {
    dogs = folder.resolve("dogs.json");
    Files.writeString(
        dogs,
        """
        {"name": "more dogs", "interventions": [
          %s]}
        """
            .formatted(Demo.dogClamp("")));
    Files.writeString(folder.resolve("bad.json"), "{\"interventions\": [{\"op\": \"dance\"}]}");
  }

  private static CommandLineRun chat(List<String> lines, Object... options) {
    return chat((String.join("\n", lines) + "\n").getBytes(StandardCharsets.UTF_8), options);
  }

  private static CommandLineRun chat(byte[] input, Object... options) {
    InputStream before = System.in;
    try {
      System.setIn(new ByteArrayInputStream(input));
      return halter(Stream.concat(Stream.of("chat"), Stream.of(options)).toArray());
    } finally {
      System.setIn(before);
    }
  }

  private static List<String> out(CommandLineRun run) {
    assertEquals(0, run.code(), run.err());
    return run.out().lines().map(String::strip).toList();
  }

  private static String answer(String question, Object... options) {
    List<Object> arguments = new ArrayList<>(List.of("generate", "--ask", question));
    arguments.addAll(List.of(options));
    return halter(arguments.toArray()).out().strip();
  }

  @Test
  void plansAreAddedScaledSwitchedAndTakenAway() {
    String plain = answer(QUESTION);
    String steered = answer(QUESTION, "--plan", dogs);
    assertNotEquals(plain, steered, "the plan changes nothing: the test shows nothing");
    CommandLineRun run =
        chat(
            List.of(
                QUESTION,
                "/clear",
                "/plan " + dogs,
                QUESTION,
                "/clear",
                "/scale 0",
                QUESTION,
                "/clear",
                "/scale more dogs 1",
                QUESTION,
                "/clear",
                "/off",
                QUESTION,
                "/clear",
                "/on more dogs",
                QUESTION,
                "/clear",
                "/drop more dogs",
                QUESTION));
    assertEquals(List.of(plain, steered, plain, steered, plain, steered, plain), out(run));
    assertEquals(
        List.of(
            "plans: more dogs",
            "plans: more dogs ×0",
            "plans: more dogs",
            "plans: more dogs off",
            "plans: more dogs",
            "no plan is loaded"),
        run.err().lines().toList());
  }

  @Test
  void aNeuronIsClampedAsAPlanWould() {
    String plain = answer(QUESTION);
    String steered = answer(QUESTION, "--plan", dogs);
    CommandLineRun run =
        chat(
            List.of(
                "/neuron " + DOG + " " + Demo.DOG_VALUE,
                QUESTION,
                "/report",
                "/compare",
                "/neuron " + DOG + " 0.5",
                "/compare",
                "/neuron " + DOG + " -20 hook_post",
                "/plan"));
    List<String> out = out(run);
    assertEquals(steered, out.get(0));
    assertTrue(out.get(1).startsWith("steered neuron_clamp at " + Demo.DOG_SITE + ": "));
    assertEquals("without: " + plain, out.get(2));
    assertEquals(CLAMPED + ": " + steered, out.get(3));
    assertEquals(DOG + "=0.5: the same answer", out.get(5));
    assertEquals(DOG + "=0.5, " + DOG + " hook_post=-20", out.get(6));
    assertEquals("neuron_clamp at " + Demo.DOG_SITE.replace("pre_linear", "post"), out.get(8));
  }

  @Test
  void aPlanToBeginWithAndSystemAreAsInTheOptions() throws IOException {
    Path messages = folder.resolve("messages.json");
    Files.writeString(
        messages,
        """
        [{"role": "system", "content": "You are a farmer."}, {"role": "user", "content": "%s"}]
        """
            .formatted(QUESTION));
    String expected = halter("generate", "--messages", messages, "--plan", dogs).out().strip();
    assertEquals(
        List.of(expected),
        out(chat(List.of(QUESTION), "--plan", dogs, "--system", "You are a farmer.")));
    assertEquals(
        List.of(expected, answer(QUESTION, "--plan", dogs)),
        out(
            chat(
                List.of("/system You are a farmer.", QUESTION, "/clear", "/system", QUESTION),
                "--plan",
                dogs)));
  }

  @Test
  void turnsGoOnFromEachOtherUntilTheyAreTakenBack() throws IOException {
    List<String> out = out(chat(List.of(QUESTION, "Is it big?", "/undo", "Is it big?")));
    Path messages = folder.resolve("messages.json");
    Files.writeString(
        messages,
        """
        [{"role": "user", "content": "%s"}, {"role": "assistant", "content": " %s"},
         {"role": "user", "content": "Is it big?"}]
        """
            .formatted(QUESTION, out.getFirst()));
    String second = halter("generate", "--messages", messages).out().strip();
    assertEquals(List.of(out.getFirst(), second, second), out);
    assertNotEquals(answer("Is it big?"), second, "the first turn changes nothing");
  }

  @Test
  void aBadLineCostsItselfAlone() {
    List<String> lines =
        List.of(
            "/plan " + folder.resolve("none.json"),
            "/plan " + folder.resolve("bad.json"),
            "/neuron 9.1 3",
            "/neuron 1.270",
            "/neuron 1.270 much",
            "/scale",
            "/scale 2",
            "/off dogs",
            "/report",
            "/compare",
            "/undo",
            "/comapre",
            "/dance",
            "/clear all",
            "",
            QUESTION);
    CommandLineRun run = chat(lines);
    assertEquals(List.of(answer(QUESTION)), out(run));
    List<String> errors = run.err().lines().toList();
    assertEquals(lines.size() - 2, errors.size(), run.err());
    errors.forEach(error -> assertTrue(error.startsWith("halter: "), error));
    assertTrue(errors.get(0).contains("none.json: no such file"), errors.get(0));
    assertTrue(errors.get(1).contains("neuron_clamp, head_scale"), errors.get(1));
    assertTrue(errors.get(11).contains("did you mean /compare?"), errors.get(11));
  }

  @Test
  void aPlanThatCannotActIsToldAndTheChatGoesOn() throws IOException {
    Path useless = folder.resolve("useless.json");
    Files.writeString(
        useless,
        """
        {"name": "useless", "interventions": [
          {"op": "head_scale", "site": "blocks.1.attn.hook_z", "heads": [0], "scale": 0,
           "when": {"prompt_tokens": [%d], "generation": "none"}}]}
        """
            .formatted(Demo.CONFIG.vocabularySize() - 1));
    CommandLineRun run = chat(List.of("/plan " + useless, QUESTION, "/off", QUESTION));
    assertEquals(List.of(answer(QUESTION)), out(run));
    assertTrue(run.err().contains("plan 'useless' selects nothing"), run.err());
  }

  @Test
  void whatIsLeftOutOfAFullContextIsSaid() {
    CommandLineRun run =
        chat(Collections.nCopies(12, QUESTION), "--context", 128, "--max-tokens", 16);
    assertEquals(12, out(run).size());
    assertTrue(
        run.err()
            .contains(
                "longer than the 128 tokens of the context: its first question and answer are left"
                    + " out"),
        run.err());
    CommandLineRun cut =
        chat(List.of(QUESTION, "dog ".repeat(300), QUESTION), "--context", 64, "--max-tokens", 2);
    assertEquals(2, out(cut).size());
    assertTrue(cut.err().contains("cut off after 2 tokens"), cut.err());
    assertTrue(cut.err().contains("at most 64 fit"), cut.err());
  }

  @Test
  void aSlashIsSaidByTwo() {
    assertEquals(out(chat(List.of("//help"))).size(), 1);
    List<String> help = out(chat(List.of("/help", "/quit", "never said")));
    assertTrue(help.stream().anyMatch(line -> line.startsWith("/scale [NAME] X")), help.toString());
    assertFalse(help.contains("never said"));
  }

  @Test
  void sampledAnswersAreTheSameInEveryRunAndOthersAtEveryTurn() {
    List<String> lines = List.of(QUESTION, "/clear", QUESTION, "/undo", QUESTION);
    Object[] hot = {"--temperature", 3, "--seed", 7, "--max-tokens", 12};
    List<String> first = out(chat(lines, hot));
    assertEquals(first, out(chat(lines, hot)));
  }

  @Test
  void wrongUseIsSaidBeforeTheModelOpens() {
    halter("chat", "--max-tokens", "0").error(2);
    halter("chat", "--temperature", "-1").error(2);
    String error = chat(List.of(QUESTION), "--plan", folder.resolve("bad.json")).error(1);
    assertTrue(error.contains("bad.json"), error);
    assertTrue(chat(new byte[] {'a', (byte) 0xff, '\n'}).error(1).contains("not UTF-8"));
  }

  @Test
  void aModelWithoutAChatTemplateIsRefusedAtOnce() throws IOException {
    Path bare = Files.createDirectory(folder.resolve("bare"));
    Path demo = Path.of("src/main/models/demo").toAbsolutePath();
    for (String file :
        List.of("config.json", "generation_config.json", "model.safetensors", "tokenizer.json")) {
      Files.createSymbolicLink(bare.resolve(file), demo.resolve(file));
    }
    String error = chat(List.of(QUESTION), "--model", bare).error(1);
    assertTrue(error.contains("has no chat template"), error);
  }

  /** What another program sees: each answer as soon as it stands, and 0 at the end of its lines. */
  @Test
  void anotherProgramTalksOverAPipe() throws Exception {
    Process process =
        CommandLineRun.process("chat").redirectError(folder.resolve("err").toFile()).start();
    try (BufferedReader out = process.inputReader(StandardCharsets.UTF_8)) {
      BufferedWriter in = process.outputWriter(StandardCharsets.UTF_8);
      String plain = say(in, out, QUESTION);
      assertEquals(answer(QUESTION), plain);
      say(in, null, "/clear");
      say(in, null, "/plan " + dogs);
      assertEquals(answer(QUESTION, "--plan", dogs), say(in, out, QUESTION));
      in.close();
      assertEquals(0, process.waitFor(), Files.readString(folder.resolve("err")));
      assertEquals(-1, out.read(), "nothing but answers");
    } finally {
      process.destroyForcibly();
    }
  }

  private static String say(BufferedWriter in, BufferedReader out, String line) throws IOException {
    in.write(line + "\n");
    in.flush();
    return out == null ? null : out.readLine().strip();
  }

  /** {@code script} gives a program a terminal. */
  @Test
  void aTerminalShowsThePlansAndKeepsTheHistory() throws Exception {
    Path script = Path.of("/usr/bin/script");
    assumeTrue(Files.isExecutable(script), "no script of util-linux");
    String command =
        CommandLineRun.process("chat").command().stream()
            .map(word -> "'" + word + "'")
            .collect(Collectors.joining(" ", "stty cols 80 rows 24; TERM=xterm exec ", ""));
    Path seen = folder.resolve("seen");
    Process process =
        new ProcessBuilder(script.toString(), "-qec", command, "/dev/null")
            .redirectErrorStream(true)
            .redirectOutput(seen.toFile())
            .start();
    try (BufferedWriter in = process.outputWriter(StandardCharsets.UTF_8)) {
      awaitText(seen, "> ", 1);
      in.write("/neuron " + DOG + " " + Demo.DOG_VALUE + "\r");
      in.flush();
      awaitText(seen, CLAMPED + "> ", 1);
      in.write(QUESTION + "\r");
      in.flush();
      awaitText(seen, CLAMPED + "> ", 2);
      in.write("\u0004");
      in.flush();
      assertEquals(0, process.waitFor(), Files.readString(seen));
      assertTrue(Files.readString(seen).contains(answer(QUESTION, "--plan", dogs)));
    } finally {
      process.destroyForcibly();
    }
  }

  private static void awaitText(Path file, String text, int times) throws Exception {
    for (int i = 0; i < 1200; i++) {
      if (Files.readString(file).split(Pattern.quote(text), -1).length > times) {
        return;
      }
      Thread.sleep(50);
    }
    throw new AssertionError("no " + text + " in " + Files.readString(file));
  }
}
