package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.golden;
import static dev.halter.cli.CommandLineRun.halter;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.Shard;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Runs with {@code --shard} and {@code halter merge}: joined they are one run, to the byte. */
class ShardsTest {
  private static final int SHARDS = 3;

  private final Path model = golden("llama3").resolve("model"); // of three layers

  @TempDir Path folder;

  /** A command's words with {@code OUT} in the place of the file that it writes. */
  private CommandLineRun run(Path out, List<Object> words, Object... more) {
    List<Object> all = new ArrayList<>(words);
    Collections.replaceAll(all, "OUT", out);
    all.addAll(List.of(more));
    return halter(all.toArray());
  }

  /** Runs every shard of a command and returns what they wrote. */
  private List<Path> shards(List<Object> words) {
    return IntStream.range(0, SHARDS)
        .mapToObj(
            i -> {
              Path out = folder.resolve("shard" + i);
              run(out, words, "--shard", i + "/" + SHARDS);
              assertTrue(Files.exists(out), "shard " + i);
              return out;
            })
        .toList();
  }

  private Path whole(List<Object> words) {
    Path out = folder.resolve("whole");
    run(out, words);
    assertTrue(Files.exists(out));
    return out;
  }

  private CommandLineRun merge(List<Path> shards, Object... more) {
    List<Object> words = new ArrayList<>(List.of("merge", "--out", folder.resolve("joined")));
    words.addAll(shards);
    words.addAll(List.of(more));
    return halter(words.toArray());
  }

  /** Joins shards, named in another order, to the bytes of one run, of which none has all. */
  private void assertJoined(List<Object> words) throws IOException {
    List<Path> shards = shards(words);
    byte[] whole = Files.readAllBytes(whole(words));
    for (Path shard : shards) {
      assertTrue(Files.size(shard) > 0 && !Arrays.equals(whole, Files.readAllBytes(shard)));
    }
    CommandLineRun merged = merge(List.of(shards.get(2), shards.get(0), shards.get(1)));
    assertEquals(0, merged.code(), merged.err());
    assertArrayEquals(whole, Files.readAllBytes(folder.resolve("joined")));

    assertTrue(
        merge(shards.subList(0, 2)).error(1).contains("shard 2/3 is missing: the files are 2 of 3"),
        "a gap");
    String twice = merge(List.of(shards.get(0), shards.get(1), shards.get(0))).error(1);
    assertTrue(twice.contains("is shard 0/3, as is"), twice);
    String unsharded = merge(List.of(folder.resolve("whole"))).error(1);
    assertTrue(unsharded.contains("is no shard"), unsharded);
  }

  private Path write(String name, List<String> lines) throws IOException {
    return Files.write(folder.resolve(name), lines);
  }

  /** Ten lines, of which one is no JSON and one repeats an id of another shard. */
  private Path lines() throws IOException {
    List<String> lines = new ArrayList<>();
    for (int i = 0; i < 10; i++) {
      lines.add("{\"id\":%d,\"tokens\":[%d,9,20],\"max_tokens\":4}".formatted(i, 3 + i));
      lines.add("");
    }
    lines.set(8, "{\"id\":");
    lines.set(12, lines.getFirst());
    return write("in.jsonl", lines);
  }

  private List<Object> batch(Path in) {
    return List.of("batch", "--model", model, "--in", in, "--out", "OUT", "--temperature", 1);
  }

  private static List<String> sorted(Path file) throws IOException {
    return Files.readAllLines(file).stream().sorted().toList();
  }

  @Test
  void resultsOfABatchJoinToThoseOfOneRun() throws IOException {
    Path in = lines();
    List<Path> shards = shards(batch(in));
    Path whole = whole(batch(in));
    assertEquals(
        List.of(3L, 3L, 4L),
        shards.stream().map(ShardsTest::count).toList(),
        "parts as equal as can be");
    assertEquals(
        "{\"lines\":10,\"failed\":2,\"shards\":3,\"out\":\"" + folder.resolve("joined") + "\"}",
        merge(shards, "--in", in, "--json").json().toString());
    assertEquals(sorted(whole), sorted(folder.resolve("joined")));
  }

  private static long count(Path file) {
    try {
      return Files.readAllLines(file).size();
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  @Test
  void aKilledShardIsResumed() throws IOException {
    Path in = lines();
    List<Path> shards = shards(batch(in));
    List<String> whole = sorted(whole(batch(in)));
    String text = Files.readString(shards.get(2));
    Files.writeString(shards.get(2), text.substring(0, text.length() * 2 / 3));
    String cut = merge(shards, "--in", in).error(1);
    assertTrue(cut.contains("finish its shard with --resume"), cut);
    run(shards.get(2), batch(in), "--shard", "2/3", "--resume");
    assertEquals(0, merge(shards, "--in", in).code());
    assertEquals(whole, sorted(folder.resolve("joined")));
  }

  @Test
  void resultsThatAreMissingTwiceOrOfOtherLinesAreRefused() throws IOException {
    Path in = lines();
    List<Path> shards = shards(batch(in));
    String missing = merge(shards.subList(0, 2), "--in", in).error(1);
    assertTrue(missing.contains("4 of 10 lines"), missing);
    assertTrue(missing.contains("the first is line 13"), missing);
    String twice =
        merge(List.of(shards.get(0), shards.get(1), shards.get(2), shards.get(1)), "--in", in)
            .error(1);
    assertTrue(twice.contains("once more"), twice);
    Path other = write("other.jsonl", List.of("{\"id\":0,\"tokens\":[3]}"));
    String stranger = merge(shards, "--in", other).error(1);
    assertTrue(stranger.contains("which " + other + " does not have"), stranger);
    assertTrue(merge(shards).error(2).contains("--in"));
    assertTrue(Files.notExists(folder.resolve("joined")));
  }

  @Test
  void dumpsOfActivationsJoinToThatOfOneRun() throws IOException {
    Path in =
        write(
            "in.jsonl",
            IntStream.range(0, 7)
                .mapToObj(i -> "{\"id\":\"p%d\",\"tokens\":[%d,9,20]}".formatted(i, 3 + i))
                .toList());
    List<Object> words =
        List.of(
            "capture",
            "--model",
            model,
            "--in",
            in,
            "--out",
            "OUT",
            "--sites",
            "blocks.*.attn.hook_z,logits");
    assertJoined(words);

    Path first = folder.resolve("shard0");
    run(first, words.subList(0, 7), "--sites", "logits", "--shard", "0/3");
    String other =
        merge(List.of(folder.resolve("shard1"), first, folder.resolve("shard2"))).error(1);
    assertTrue(other.contains("of another run"), other);
  }

  @Test
  void mapsOfLayersJoinToThatOfTheModel() throws IOException {
    List<Object> words = List.of("map", "--model", model, "--out", "OUT", "--top", 3);
    assertJoined(words);
    String part =
        halter("neurons", "--model", model, "--map", folder.resolve("shard1"), "--neuron", "0.1")
            .error(1);
    assertTrue(part.contains("is shard 1/3 of a map: join them with halter merge"), part);
    String tooMany = run(folder.resolve("none"), words, "--shard", "0/4").error(1);
    assertTrue(tooMany.contains("the model has 3 layers"), tooMany);
    String html =
        run(folder.resolve("none"), words, "--shard", "0/3", "--html", folder.resolve("a.html"))
            .error(2);
    assertTrue(html.contains("--out alone"), html);
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "--probability", "--receivers=2.1.q,1.0.k"})
  void effectsOverPairsJoinToThoseOfOneRun(String option) throws IOException {
    List<String> pairs = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      pairs.add(
          """
          {"reference_tokens": [5, %d, 20], "counterfactual_tokens": [5, %d, 22], "answer_token": %d, "foil_token": 3}"""
              .formatted(9 + i, 50 + 3 * i, 30 + i));
    }
    List<Object> words = new ArrayList<>(List.of("heads", "patch", "--model", model));
    words.addAll(List.of("--pairs", write("pairs.jsonl", pairs), "--out", "OUT"));
    if (!option.isEmpty()) {
      words.add(option);
    }
    assertJoined(words);
    String tooMany = run(folder.resolve("none"), words, "--shard", "0/9").error(2);
    assertTrue(tooMany.contains("has 8 pairs"), tooMany);
  }

  @ParameterizedTest
  @ValueSource(longs = {0, 1, 7, 8, 9, 1000, Long.MAX_VALUE})
  void partsFollowOneAnotherAndAreAsEqualAsCanBe(long total) {
    long end = 0;
    for (int i = 0; i < 8; i++) {
      Shard shard = new Shard(i, 8);
      assertEquals(end, shard.begin(total));
      end = shard.end(total);
      long size = end - shard.begin(total);
      assertTrue(size == total / 8 || size == total / 8 + 1, shard + ": " + size);
    }
    assertEquals(total, end);
  }

  private static Map<String, String> environment(String text) {
    Map<String, String> environment = new HashMap<>();
    for (String entry : text.isEmpty() ? new String[0] : text.split(" ")) {
      String[] parts = entry.split("=");
      environment.put(parts[0], parts[1]);
    }
    return environment;
  }

  private static Shard slurm(String text, int id, int min, int max, int count, int step) {
    return ShardOptions.parse(
        text,
        Map.of(
            "SLURM_ARRAY_TASK_ID", Integer.toString(id),
            "SLURM_ARRAY_TASK_MIN", Integer.toString(min),
            "SLURM_ARRAY_TASK_MAX", Integer.toString(max),
            "SLURM_ARRAY_TASK_COUNT", Integer.toString(count),
            "SLURM_ARRAY_TASK_STEP", Integer.toString(step)));
  }

  @Test
  void theEnvironmentSaysWhichShard() {
    assertEquals(new Shard(3, 8), ShardOptions.parse("3/8", Map.of()));
    assertEquals(
        new Shard(2, 5), ShardOptions.parse("auto/5", environment("JOB_COMPLETION_INDEX=2")));
    assertEquals(new Shard(7, 8), slurm("auto", 7, 0, 7, 8, 1));
    assertEquals(new Shard(0, 8), slurm("auto/8", 1, 1, 8, 8, 1));
    assertEquals(new Shard(4, 8), slurm("auto", 50, 10, 80, 8, 10));
    assertNotEquals(slurm("auto", 50, 10, 80, 8, 10), slurm("auto", 60, 10, 80, 8, 10));
  }

  @ParameterizedTest
  @CsvSource({
    "8/8, '', of N parts one is 0/N to (N-1)/N",
    "0/0, '', of N parts one is 0/N to (N-1)/N",
    "1-8, '', not as 0/8",
    "-1/8, '', not as 0/8",
    "auto, '', neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set",
    "auto, JOB_COMPLETION_INDEX=2, add it",
    "auto/2, JOB_COMPLETION_INDEX=2, shard 2/2",
    "auto/2, JOB_COMPLETION_INDEX=x, JOB_COMPLETION_INDEX is 'x'",
    "auto, SLURM_ARRAY_TASK_ID=2, SLURM_ARRAY_TASK_COUNT is ''"
  })
  void aShardThatIsNoneIsRefused(String text, String environment, String problem) {
    String message = refusal(() -> ShardOptions.parse(text, environment(environment)));
    assertTrue(message.startsWith("--shard " + text + ": "), message);
    assertTrue(message.contains(problem), message);
  }

  @Test
  void aSlurmArrayWithGapsOrOfAnotherSizeIsRefused() {
    String gaps = refusal(() -> slurm("auto", 3, 1, 7, 3, 1));
    assertTrue(gaps.contains("give it --array=0-2"), gaps);
    String size = refusal(() -> slurm("auto/4", 0, 0, 7, 8, 1));
    assertTrue(size.contains("the Slurm array has 8 tasks"), size);
  }

  private static String refusal(Executable parse) {
    return assertThrows(WrongUseException.class, parse).getMessage();
  }

  @Test
  void aFileThatIsJoinedIsNotWrittenOver() {
    Path shard = folder.resolve("joined");
    assertTrue(merge(List.of(shard)).error(2).contains("--out is one of the shards"));
    assertTrue(
        merge(Stream.of("a").map(folder::resolve).toList()).error(1).contains("no such file"));
  }
}
