package dev.halter.cli.concepts;

import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.keys;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.Demo;
import dev.halter.cli.CommandLineRun;
import dev.halter.device.DType;
import dev.halter.sparse.ConceptScores;
import dev.halter.text.ChatServer;
import dev.halter.weights.Safetensors;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ConceptsTest {
  private static final Path GOLDENS = Path.of("src/test/resources/sparse");

  @TempDir Path folder;

  @Test
  void partitionKeepsTheConceptsOfHighestScoreForPlans() throws IOException {
    Path scores = folder.resolve("scores.csv");
    Files.writeString(
        scores, "score,note,concept\n-0.5,,fair\n0.97,x,\"evil, pure\"\n1,,harm\n0.97,,bias\n");
    Path out = folder.resolve("partition.json");
    CommandLineRun run =
        halter("concepts", "partition", "--scores", scores, "--top", 3, "--out", out, "--json");
    assertEquals(0, run.code(), run.err());
    assertEquals(List.of("scored", "kept", "out"), keys(run.json()));
    assertEquals(4, run.json().get("scored").asInt());
    ConceptScores written = ConceptScores.read(out);
    assertEquals(List.of("harm", "evil, pure", "bias"), written.top(3));
    assertEquals(0.97, written.concepts().get(2).score());
    assertEquals(3, written.concepts().size());
  }

  @Test
  void partitionRefusesWhatIsNoScore() throws IOException {
    Path scores = folder.resolve("scores.csv");
    Path out = folder.resolve("partition.json");
    for (String row : List.of("harm,1.5", "harm,NaN", "harm,0x1", "harm,", "harm,1\nharm,0")) {
      Files.writeString(scores, "concept,score\nkind,0\n" + row + "\n");
      CommandLineRun run = halter("concepts", "partition", "--scores", scores, "--out", out);
      assertEquals(1, run.code(), row);
      assertTrue(run.err().contains("harm"), run.err());
      assertFalse(Files.exists(out), row);
    }
    Files.writeString(scores, "concept,score\nkind,0\n");
    CommandLineRun more =
        halter("concepts", "partition", "--scores", scores, "--top", 2, "--out", out);
    assertEquals(1, more.code());
    assertTrue(more.err().contains("1 concept"), more.err());
  }

  /** The key here is the value of PATH, which is always set. */
  @Test
  void partitionAsksAnEndpointForTheScoresThatTheTableLacks() throws IOException {
    Path names = folder.resolve("names.txt");
    Path out = folder.resolve("partition.json");
    Files.writeString(names, "stone\nharm\nodd\n");
    Map<String, String> answers = Map.of("stone", "0.1", "harm", "1", "odd", "who knows");
    try (ChatServer server =
        new ChatServer(asked -> ChatServer.Reply.of(answers.get(asked.concept())))) {
      Object[] command = {
        "concepts",
        "partition",
        "--scores",
        folder.resolve("scores.csv"),
        "--concepts",
        names,
        "--task",
        "find harm",
        "--endpoint",
        server.url(),
        "--model-name",
        "m",
        "--api-key-env",
        "PATH",
        "--out",
        out,
        "--json"
      };
      CommandLineRun run = halter(command);
      assertEquals(1, run.code(), run.err());
      assertTrue(run.err().contains("1 of 3 concepts have no score, such as \"odd\""), run.err());
      JsonNode printed = CommandLineRun.parse(run.out());
      assertEquals(List.of("scored", "kept", "out", "before", "unscored"), keys(printed));
      assertEquals("odd", printed.get("unscored").get(0).get("concept").asText());
      assertEquals(List.of("harm", "stone"), ConceptScores.read(out).top(2));
      assertEquals(5, server.asked().size());
      String key = System.getenv("PATH");
      assertEquals("Bearer " + key, server.asked().getFirst().authorization());
      assertFalse((run.out() + run.err()).contains(key));
      assertEquals(2, CommandLineRun.parse(halter(command).out()).get("before").asInt());
      assertEquals(8, server.asked().size());
    }
  }

  /** The model that ships is too small to judge: it repeats a score of the prompt's examples. */
  @Test
  void partitionAsksAModelOfItsOwn() throws IOException {
    Path names = folder.resolve("names.txt");
    Path scores = folder.resolve("scores.csv");
    Path out = folder.resolve("partition.json");
    Files.writeString(names, "['dog', 'rain']");
    Object[] command = {
      "concepts",
      "partition",
      "--scores",
      scores,
      "--concepts",
      names,
      "--task",
      "speak of dogs",
      "--model",
      "src/main/models/demo",
      "--out",
      out,
      "--json",
      "--context",
      512
    };
    JsonNode first = halter(command).json();
    assertEquals(2, first.get("scored").asInt());
    assertEquals(0, first.get("before").asInt());
    assertEquals(2, ConceptScores.read(out).concepts().size());
    assertTrue(Files.readString(scores).contains(",speak of dogs,demo "));
    assertEquals(2, halter(command).json().get("before").asInt());
    // What it cannot answer for at all is told and harms nothing.
    Files.delete(scores);
    command[command.length - 1] = 64;
    String error = halter(command).error(1);
    assertTrue(error.contains("2 of 2 concepts have no score, such as \"dog\": "), error);
    assertTrue(error.contains("at most 64 fit"), error);
  }

  @Test
  void partitionSaysWhatIsMissingToAsk() throws IOException {
    Path scores = folder.resolve("scores.csv");
    Path names = folder.resolve("names.txt");
    Files.writeString(names, "a");
    Object[][] wrong = {
      {"--concepts", names},
      {"--endpoint", "http://127.0.0.1:1", "--concepts", names, "--task", "t"},
      {"--endpoint", "http://127.0.0.1:1", "--model-name", "m", "--concepts", names},
      {"--endpoint", "http://127.0.0.1:1", "--model-name", "m", "--task", "t"},
      {"--endpoint", "http://127.0.0.1:1", "--model", "m", "--concepts", names, "--task", "t"},
      {
        "--endpoint",
        "http://127.0.0.1:1",
        "--model-name",
        "m",
        "--concepts",
        names,
        "--task",
        "t",
        "--api-key-env",
        "NO_SUCH_VARIABLE_HERE"
      },
      {"--model", "m", "--model-name", "m", "--concepts", names, "--task", "t"}
    };
    for (Object[] options : wrong) {
      List<Object> all =
          new ArrayList<>(List.of("concepts", "partition", "--scores", scores, "--out", names));
      all.addAll(List.of(options));
      halter(all.toArray()).error(2);
    }
    // Without names there is nothing to ask for.
    Path atoms = copy(GOLDENS.resolve("gaussian.safetensors"), "atoms", "concepts.safetensors");
    String error =
        halter(
                "concepts",
                "partition",
                "--scores",
                scores,
                "--out",
                names,
                "--dictionary",
                atoms,
                "--task",
                "t",
                "--model",
                "src/main/models/demo")
            .error(1);
    assertTrue(error.contains("has no names"), error);
    assertFalse(Files.exists(scores));
  }

  @Test
  void decomposeWritesTheCodesOfAllRowsInOrder() throws IOException {
    Path golden = GOLDENS.resolve("duplicates.safetensors");
    Path atoms = copy(golden, "atoms", "concepts.safetensors");
    Path vectors = copy(golden, "vectors", "vectors.safetensors");
    Path out = folder.resolve("codes.json");
    CommandLineRun run =
        halter(
            "concepts",
            "decompose",
            "--dictionary",
            atoms,
            "--vectors",
            golden + "#vectors",
            "--solver",
            "omp",
            "--k",
            10,
            "--out",
            out,
            "--json");
    JsonNode codes = run.json().get("codes");
    assertEquals(run.json(), CommandLineRun.parse(Files.readString(out)));
    assertTrue(run.err().contains("plan: correlations by products"), run.err());
    assertTrue(run.err().contains("40 of 200 atoms repeat others"), run.err());
    JsonNode expected =
        CommandLineRun.parse(Files.readString(GOLDENS.resolve("duplicates.json"))).get("omp");
    assertEquals(expected.size(), codes.size());
    for (int row = 0; row < codes.size(); row++) {
      JsonNode code = codes.get(row);
      assertEquals(
          List.of("support", "coefficients", "objective", "residual_norm", "iterations", "kkt"),
          keys(code));
      double norm = expected.get(row).get("residual_norm").asDouble();
      assertEquals(norm, code.get("residual_norm").asDouble(), 1e-5 * norm);
      for (int i = 0; i < 10; i++) {
        int atom = expected.get(row).get("support").get(i).asInt();
        int twin = code.get("support").get(i).asInt();
        assertTrue(atom == twin || atom % 5 == 4 && twin == atom - 1, atom + " and " + twin);
        // The second of two that are equal is twice as long.
        double scale = atom == twin ? 1 : 2;
        double right = expected.get(row).get("coefficients").get(i).asDouble() * scale;
        assertEquals(
            right, code.get("coefficients").get(i).asDouble(), 1e-4 * Math.abs(right) + 1e-4);
      }
    }
    // The only tensor of a file needs no name, and the table shows names.
    Files.writeString(folder.resolve("concepts.names.json"), names(200));
    CommandLineRun table =
        halter(
            "concepts",
            "decompose",
            "--dictionary",
            atoms,
            "--vectors",
            vectors,
            "--top",
            3,
            "--solver",
            "lasso",
            "--alpha",
            0.1);
    assertEquals(0, table.code(), table.err());
    assertTrue(table.out().startsWith("vector 0: "), table.out());
    assertTrue(table.out().contains("concept "), table.out());
    assertTrue(table.out().contains("  and "), table.out());
    // What adds most to the vector comes first.
    List<Double> shares =
        table
            .out()
            .lines()
            .skip(1)
            .limit(3)
            .map(line -> Math.abs(Double.parseDouble(line.strip().split(" ", -1)[0])))
            .toList();
    assertEquals(shares.stream().sorted(Comparator.reverseOrder()).toList(), shares);
    assertTrue(shares.get(0) > shares.get(2), shares.toString());
  }

  @Test
  void aRowThatCannotBeCodedFailsAloneAndTheRestIsWritten() throws IOException {
    Path atoms = copy(GOLDENS.resolve("gaussian.safetensors"), "atoms", "concepts.safetensors");
    Path vectors = folder.resolve("bad.safetensors");
    float[] values = new float[3 * 40];
    Random random = new Random(1);
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    values[50] = Float.NaN;
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            vectors, Map.of(), List.of(new TensorSpec("x", DType.F32, 3, 40)))) {
      out.write("x", values);
    }
    Path out = folder.resolve("codes.json");
    CommandLineRun run =
        halter("concepts", "decompose", "--dictionary", atoms, "--vectors", vectors, "--out", out);
    assertEquals(1, run.code());
    assertTrue(run.err().contains("vector 1: the vector holds values that are not finite"));
    JsonNode codes = CommandLineRun.parse(Files.readString(out)).get("codes");
    assertEquals(3, codes.size());
    assertTrue(codes.get(1).get("error").asText().contains("not finite"));
    assertFalse(codes.get(2).has("error"));
    assertTrue(codes.get(0).get("support").size() > 0 && codes.get(2).get("support").size() > 0);
  }

  /** The code of a prompt's last token is that of the row that capture writes. */
  @Test
  void aPromptIsCodedByItsLastToken() throws IOException {
    Path in = folder.resolve("in.jsonl");
    Path dump = folder.resolve("dump.safetensors");
    Files.writeString(in, "{\"id\":\"x\",\"prompt\":\"A dog is an animal.\"}\n");
    String sites = "blocks.1.hook_resid_post,blocks.1.hook_resid_pre";
    assertEquals(0, halter("capture", "--in", in, "--out", dump, "--sites", sites).code());
    float[] all;
    int d;
    try (Safetensors file = Safetensors.open(dump)) {
      all = file.tensor("x/blocks.1.hook_resid_post").toFloats();
      d = (int) file.tensor("x/blocks.1.hook_resid_post").size(1);
    }
    Path dictionary = folder.resolve("concepts.safetensors");
    Random random = new Random(1);
    float[] atoms = new float[60 * d];
    for (int i = 0; i < atoms.length; i++) {
      atoms[i] = (float) random.nextGaussian();
    }
    System.arraycopy(all, all.length - d, atoms, 7 * d, d); // one atom is the activation itself
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            dictionary,
            Map.of("names", names(60)),
            List.of(new TensorSpec("atoms.1", DType.F32, 60, d)))) {
      out.write("atoms.1", atoms);
    }
    JsonNode codes =
        halter(
                "concepts",
                "decompose",
                "--dictionary",
                dictionary,
                "--prompt",
                "A dog is an animal.",
                "--layer",
                1,
                "--solver",
                "omp",
                "--k",
                3,
                "--json")
            .json()
            .get("codes");
    assertEquals(1, codes.size());
    assertEquals("[7]", codes.get(0).get("support").toString());
    assertEquals(1, codes.get(0).get("coefficients").get(0).asDouble(), 1e-5);
    JsonNode before =
        halter(
                "concepts",
                "decompose",
                "--dictionary",
                dictionary,
                "--prompt",
                "A dog is an animal.",
                "--layer",
                1,
                "--site",
                "hook_resid_pre",
                "--solver",
                "omp",
                "--k",
                3,
                "--json")
            .json()
            .get("codes");
    assertEquals(3, before.get(0).get("support").size());
    String error =
        halter("concepts", "decompose", "--dictionary", dictionary, "--prompt", "x", "--layer", 0)
            .err();
    assertTrue(error.contains("no dictionary of layer 0; it has layers [1]"), error);
  }

  /** The stimuli that ship hold the markup of the demo model's template. */
  @Test
  void aTemplateAroundMarkupIsToldAndTheRemovalSaysWhatItDid() throws IOException {
    Path stimuli = folder.resolve("stimuli.jsonl");
    List<String> shipped =
        Files.readAllLines(Path.of("src/main/models/demo/concepts/stimuli.jsonl"));
    Files.write(
        stimuli,
        shipped.stream()
            .filter(line -> line.contains("\"Africa\"") || line.contains("\"rude\""))
            .toList());
    Path out = folder.resolve("d.safetensors");
    Object[] build = {
      "concepts", "build", "--stimuli", stimuli, "--layers", "3..3", "--others", 20, "--out", out
    };
    CommandLineRun wrapped = halter(build);
    assertEquals(0, wrapped.code(), wrapped.err());
    assertTrue(wrapped.err().contains("<|user|>"), wrapped.err());
    assertTrue(wrapped.err().contains("--template '{text}'"), wrapped.err());

    List<Object> asTheyAre = new ArrayList<>(List.of(build));
    asTheyAre.addAll(List.of("--template", "{text}"));
    CommandLineRun plain = halter(asTheyAre.toArray());
    assertEquals("", plain.err());

    Path plan = folder.resolve("plan.json");
    Files.writeString(
        plan,
        "{\"interventions\": [{\"op\": \"remove_concepts\", \"dictionary\": \"d.safetensors\","
            + " \"layers\": [3, 3], \"solver\": \"omp\", \"k\": 2, \"remove\": [\"Africa\"]}]}");
    CommandLineRun steered =
        halter("generate", "--ask", "Where is Egypt?", "--max-tokens", 2, "--plan", plan);
    assertEquals(0, steered.code(), steered.err());
    assertTrue(steered.err().contains("; removed Africa ("), steered.err());
  }

  @Test
  void infoCountsAtomsAndRepeats() {
    Path atoms = copy(GOLDENS.resolve("duplicates.safetensors"), "atoms", "concepts.safetensors");
    JsonNode info = halter("concepts", "info", atoms, "--json").json();
    assertEquals(List.of("atoms", "d_model", "layers", "names"), keys(info));
    assertEquals(200, info.get("atoms").asInt());
    assertEquals(40, info.get("d_model").asInt());
    JsonNode layer = info.get("layers").get(0);
    assertTrue(layer.get("layer").isNull());
    assertEquals(40, layer.get("repeats").asInt());
    // Atoms are standard normal + 1/2: the mean is 1/2 of each unit length sqrt(1 + 1/4).
    assertEquals(0.5 / Math.sqrt(1.25), layer.get("common_part").asDouble(), 0.05);
    String text = halter("concepts", "info", atoms).out();
    assertTrue(
        text.contains("200 atoms of 40 numbers") && text.contains("one concept with them"), text);
  }

  @Test
  void settingsOfAnotherSolverAreWrongUse() {
    Path golden = GOLDENS.resolve("gaussian.safetensors");
    Path atoms = copy(golden, "atoms", "concepts.safetensors");
    Object[][] wrong = {
      {"--solver", "lasso", "--tau", 0.5},
      {"--solver", "omp", "--alpha", 0.5},
      {"--solver", "mp", "--tolerance", 0.5},
      {"--k", 5},
      {"--solver", "omp", "--k", 0},
      {"--solver", "fista"},
      {"--alpha", -1},
      {"--top", 0}
    };
    for (Object[] options : wrong) {
      Object[] all = new Object[6 + options.length];
      Object[] start = {
        "concepts", "decompose", "--dictionary", atoms, "--vectors", golden + "#vectors"
      };
      System.arraycopy(start, 0, all, 0, 6);
      System.arraycopy(options, 0, all, 6, options.length);
      assertTrue(halter(all).error(2).length() > 10);
    }
    String error =
        halter("concepts", "decompose", "--dictionary", atoms, "--vectors", golden).error(1);
    assertTrue(error.contains("holds 2 tensors"), error);
  }

  /** Writes one tensor of a file as a file of its own. */
  private Path copy(Path from, String tensor, String name) {
    Path to = folder.resolve(name);
    try (Safetensors file = Safetensors.open(from);
        SafetensorsWriter out =
            SafetensorsWriter.create(
                to,
                Map.of(),
                List.of(new TensorSpec(tensor, DType.F32, file.tensor(tensor).shape())))) {
      out.write(tensor, file.tensor(tensor).toFloats());
    }
    return to;
  }

  private static String names(int count) {
    StringBuilder names = new StringBuilder("[");
    for (int i = 0; i < count; i++) {
      names.append(i == 0 ? "" : ",").append("\"concept ").append(i).append('"');
    }
    return names.append(']').toString();
  }

  /**
   * Atom 9 is f times atom 4, which is what the prompt has at the site: what is removed of the one
   * concept that they are is the same for every f, and all that a dictionary without a twin
   * removes.
   */
  @Test
  void aTwinOfAnyLengthIsRemovedAsOne() throws IOException {
    float[] residual = residual();
    double alone = removal(residual, 0, "c4").asDouble();
    assertTrue(alone > 0.01, "removes " + alone);
    double equal = removal(residual, 1, "c4").asDouble();
    assertEquals(alone, equal, 0.01 * alone);
    for (float f : new float[] {0.3f, 0.7f, 1, 2, 3}) {
      for (String named : List.of("c4", "c9")) {
        assertEquals(equal, removal(residual, f, named).asDouble(), 1e-5 * equal, "f = " + f);
      }
    }
  }

  /** The residual stream of a prompt's last token after block 2 of the demo model. */
  private float[] residual() throws IOException {
    Path in = Files.writeString(folder.resolve("in.jsonl"), "{\"id\":1,\"prompt\":\"My dog\"}");
    Path out = folder.resolve("dump.safetensors");
    CommandLineRun run =
        halter("capture", "--in", in, "--sites", "blocks.2.hook_resid_post", "--out", out);
    assertEquals(0, run.code(), run.err());
    try (Safetensors dump = Safetensors.open(out)) {
      float[] all = dump.tensor("1/blocks.2.hook_resid_post").toFloats();
      return Arrays.copyOfRange(all, all.length - Demo.CONFIG.dModel(), all.length);
    }
  }

  /** The mean norm of what a plan removes that names one concept; f = 0 for no twin of atom 4. */
  private JsonNode removal(float[] residual, float f, String named) throws IOException {
    Random random = new Random(7);
    int d = residual.length;
    float[] atoms = new float[60 * d];
    for (int i = 0; i < atoms.length; i++) {
      atoms[i] = (float) (random.nextGaussian() / Math.sqrt(d));
    }
    System.arraycopy(residual, 0, atoms, 4 * d, d);
    if (f != 0) {
      for (int i = 0; i < d; i++) {
        atoms[9 * d + i] = f * atoms[4 * d + i];
      }
    }
    Path dictionary = folder.resolve("twin.safetensors");
    String names =
        IntStream.range(0, 60)
            .mapToObj(i -> "\"c" + i + "\"")
            .collect(Collectors.joining(",", "[", "]"));
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            dictionary,
            Map.of("names", names),
            List.of(new TensorSpec("atoms", DType.F32, 60, d)))) {
      out.write("atoms", atoms);
    }
    JsonNode info = halter("concepts", "info", dictionary, "--json").json();
    assertEquals(f == 0 ? 0 : 1, info.findValue("repeats").asInt(), info.toString());
    Path plan =
        Files.writeString(
            folder.resolve("plan.json"),
            """
            {"interventions": [{"op": "remove_concepts", "dictionary": "twin.safetensors",
              "layers": [2, 2], "solver": "elastic_net", "alpha": 0.01, "tau": 0.9,
              "remove": ["%s"]}]}\
            """
                .formatted(named));
    return halter("generate", "--prompt", "My dog", "--plan", plan, "--max-tokens", 1, "--json")
        .json()
        .findValue("mean_change");
  }
}
