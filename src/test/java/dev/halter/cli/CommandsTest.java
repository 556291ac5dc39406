package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.golden;
import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.keys;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.Demo;
import dev.halter.weights.Safetensors;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What each command prints, on the model that ships: keys, shapes, and agreement between them. */
class CommandsTest {
  private static final String QUESTION = "What is your favourite animal?";

  @TempDir Path folder;

  @Test
  void infoShowsModelDeviceAndMemory() {
    JsonNode info = halter("info", "--json", "--model", golden("mistral").resolve("model")).json();
    assertEquals("mistral", info.get("family").asText());
    for (String key : List.of("device", "dtype", "cuda", "cpu")) {
      assertTrue(info.get(key).isTextual(), key);
    }
    JsonNode memory = info.get("memory");
    assertEquals(List.of("weights", "kv_cache", "scratch", "java", "total", "free"), keys(memory));
    assertTrue(memory.get("java").asLong() > 64L << 20, memory.toString());
    long planned =
        memory.get("weights").asLong()
            + memory.get("kv_cache").asLong()
            + memory.get("scratch").asLong();
    assertTrue(planned > 0 && planned < memory.get("total").asLong(), memory.toString());
    String text = halter("info", "--model", golden("mistral").resolve("model")).out();
    assertTrue(text.contains(info.get("device").asText()), text);
  }

  @Test
  void tokensArePiecesOfTheRenderedPrompt() throws IOException {
    JsonNode asked = halter("tokens", "--ask", QUESTION, "--json").json();
    assertEquals(List.of("text", "tokens", "pieces"), keys(asked));
    assertTrue(asked.get("text").asText().contains(QUESTION));
    assertEquals(asked.get("tokens").size(), asked.get("pieces").size());
    StringBuilder joined = new StringBuilder();
    asked.get("pieces").forEach(piece -> joined.append(piece.asText()));
    assertEquals(asked.get("text").asText(), joined.toString());

    Path messages = folder.resolve("messages.json");
    Files.writeString(messages, "[{\"role\": \"user\", \"content\": \"" + QUESTION + "\"}]");
    assertEquals(asked, halter("tokens", "--messages", messages, "--json").json());
    assertNotEquals(asked, halter("tokens", "--prompt", QUESTION, "--json").json());
  }

  @Test
  void badMessagesAreOneLine() throws IOException {
    Path messages = folder.resolve("messages.json");
    for (String bad :
        List.of(
            "",
            "[]",
            "{}",
            "[{\"role\": \"user\"}]",
            "[{\"role\": \"user\", \"content\": 3}]",
            "[{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]",
            "[{\"role\": \"user\", \"content\": \"a\"}], \"more\": 1")) {
      Files.writeString(messages, bad);
      String error = halter("tokens", "--messages", messages).error(1);
      assertTrue(error.contains(messages.toString()), error);
    }
    Files.write(messages, new byte[] {'[', '"', (byte) 0xff, '"', ']'});
    halter("tokens", "--messages", messages).error(1);
  }

  @Test
  void generateAnswersAndReportsItsSteering() throws IOException {
    Path plan = folder.resolve("plan.json");
    Files.writeString(
        plan,
        """
        {"interventions": [
          {"op": "neuron_clamp", "site": "blocks.1.mlp.hook_pre_linear", "neurons": [3], "value": 40}]}
        """);
    JsonNode plain = halter("generate", "--ask", QUESTION, "--max-tokens", 12, "--json").json();
    assertEquals(
        List.of("text", "tokens", "prompt_tokens", "finish_reason", "steering_report"),
        keys(plain));
    assertTrue(List.of("stop", "length").contains(plain.get("finish_reason").asText()));
    assertEquals(
        halter("tokens", "--ask", QUESTION, "--json").json().get("tokens").size(),
        plain.get("prompt_tokens").asInt());
    assertEquals(List.of("interventions", "notes"), keys(plain.get("steering_report")));
    assertEquals(0, plain.get("steering_report").get("interventions").size());

    JsonNode steered =
        halter("generate", "--ask", QUESTION, "--max-tokens", 12, "--plan", plan, "--json").json();
    assertNotEquals(plain.get("tokens"), steered.get("tokens"));
    JsonNode entry = steered.get("steering_report").get("interventions").get(0);
    assertEquals(List.of("op", "site", "tokens", "mean_change"), keys(entry));
    assertEquals("neuron_clamp", entry.get("op").asText());
    assertEquals("blocks.1.mlp.hook_pre_linear", entry.get("site").asText());
    assertTrue(entry.get("mean_change").asDouble() > 1);
    // The model saw the prompt and all that it generated, but for a last token that met the limit.
    boolean limit = steered.get("finish_reason").asText().equals("length");
    assertEquals(
        steered.get("prompt_tokens").asInt() + steered.get("tokens").size() - (limit ? 1 : 0),
        entry.get("tokens").asInt());
  }

  @Test
  void generateStreamsTheTextOfItsJson() {
    String text =
        halter("generate", "--ask", QUESTION, "--max-tokens", 12, "--json")
            .json()
            .get("text")
            .asText();
    CommandLineRun run = halter("generate", "--ask", QUESTION, "--max-tokens", 12);
    assertEquals(0, run.code(), run.err());
    assertEquals(text.strip(), run.out().strip());
  }

  @Test
  void demoRaisesTheConceptByOneNeuron() throws Exception {
    JsonNode demo = halter("demo", "--json").json();
    assertEquals(
        List.of(
            "device",
            "neurons",
            "map_seconds",
            "concept",
            "layer",
            "neuron",
            "site",
            "value",
            "before",
            "after",
            "control",
            "doses",
            "fluent",
            "plan"),
        keys(demo));
    assertEquals(
        "blocks." + demo.get("layer").asInt() + ".mlp.hook_pre_linear", demo.get("site").asText());
    assertEquals(List.of("text", "probability"), keys(demo.get("before")));
    assertEquals(List.of("text", "probability"), keys(demo.get("after")));
    double before = demo.get("before").get("probability").asDouble();
    double after = demo.get("after").get("probability").asDouble();
    double control = demo.get("control").get("probability").asDouble();
    assertTrue(after > 0.3, demo.toString());
    assertTrue(after > 5 * before, demo.toString());
    assertTrue(after > 5 * control, demo.toString());
    String concept = demo.get("concept").asText();
    assertTrue(!demo.get("before").get("text").asText().contains(concept), demo.toString());
    assertTrue(demo.get("fluent").asBoolean(), demo.toString());
    assertEquals(Demo.DOG, demo.get("after").get("text").asText());
    double ofPlan = 0;
    for (JsonNode dose : demo.get("doses")) {
      assertEquals(List.of("value", "probability"), keys(dose));
      if (dose.get("value").equals(demo.get("value"))) {
        ofPlan = dose.get("probability").asDouble();
      }
    }
    assertEquals(after, ofPlan, 1e-6 * after);

    Path plan = Files.writeString(folder.resolve("demo-plan.json"), demo.get("plan").toString());
    JsonNode again =
        halter("generate", "--ask", "What is your favourite animal?", "--plan", plan, "--json")
            .json();
    assertEquals(demo.get("after").get("text").asText(), again.get("text").asText().strip());
  }

  @Test
  void demoDrawsTheDosesOfItsNeuron() {
    List<String> lines = halter("demo").out().lines().toList();
    List<String> doses = lines.stream().filter(line -> line.matches(" +-?[0-9]+  .*")).toList();
    assertEquals(10, doses.size(), lines::toString);
    List<String> chosen = doses.stream().filter(line -> line.endsWith("  <- the plan")).toList();
    assertEquals(1, chosen.size(), lines::toString);
    double most = 0;
    for (String dose : doses) {
      String[] parts = dose.strip().split("\\s+");
      double probability = Double.parseDouble(parts[1]);
      int full = dose.replaceAll("[^\u2588]", "").length();
      assertEquals(40 * probability, full, 1.02, "a full bar is 1: " + dose);
      most = Math.max(most, probability);
    }
    double ofPlan = Double.parseDouble(chosen.getFirst().strip().split("\\s+")[1]);
    assertTrue(ofPlan > 0.5 * most, "the likeliest that leaves a text");
    String asItIs =
        lines.stream()
            .filter(line -> line.strip().startsWith("as it is  "))
            .findFirst()
            .orElseThrow();
    assertTrue(Double.parseDouble(asItIs.strip().split("\\s+")[3]) < 0.2 * ofPlan, asItIs);
  }

  @Test
  void neuronsOfAMapAreFoundByNameAndByToken() {
    Path map = folder.resolve("up.safetensors");
    JsonNode made = halter("map", "--out", map, "--top", 5, "--json").json();
    assertEquals(List.of("device", "neurons", "map_seconds", "out"), keys(made));

    JsonNode rows = halter("neurons", "--map", map, "--neuron", "1.7", "--top", 4, "--json").json();
    assertEquals(8, rows.size(), "four of each sign");
    JsonNode last = null;
    for (JsonNode row : rows) {
      assertEquals(
          List.of("layer", "neuron", "sign", "rank", "token_id", "token", "logit", "probability"),
          keys(row));
      assertEquals(1, row.get("layer").asInt());
      assertEquals(7, row.get("neuron").asInt());
      if (last != null && last.get("sign").equals(row.get("sign"))) {
        assertEquals(last.get("rank").asInt() + 1, row.get("rank").asInt());
        assertTrue(last.get("logit").asDouble() >= row.get("logit").asDouble());
      }
      last = row;
    }

    JsonNode dogs = halter("neurons", "--map", map, "--token", "dog", "--top", 3, "--json").json();
    assertTrue(dogs.size() > 0 && dogs.size() <= 3);
    double probability = 1;
    for (JsonNode row : dogs) {
      assertEquals("dog", row.get("token").asText().strip());
      assertTrue(row.get("probability").asDouble() <= probability);
      probability = row.get("probability").asDouble();
    }
    String table = halter("neurons", "--map", map, "--token", "dog", "--top", 3).out();
    assertEquals(1 + dogs.size(), table.lines().count(), table);

    double least = dogs.get(1).get("probability").asDouble();
    int layer = dogs.get(0).get("layer").asInt();
    JsonNode some =
        halter("neurons", "--map", map, "--token", "dog", "--min-probability", least, "--json")
            .json();
    assertEquals(2, some.size(), "those at least so probable");
    some = halter("neurons", "--map", map, "--token", "dog", "--layers", layer, "--json").json();
    some.forEach(row -> assertEquals(layer, row.get("layer").asInt()));
    assertEquals(dogs.get(0), some.get(0));

    String far = halter("neurons", "--map", map, "--token", "dog", "--layers", "1..77").error(1);
    assertTrue(far.contains("layers are 0 to"), far);
    String error = halter("neurons", "--map", map, "--neuron", "77.0").error(1);
    assertTrue(error.contains("layers are 0 to"), error);
  }

  @Test
  void neuronsAreVerifiedByWhatClampingThemDoes() {
    Path map = folder.resolve("up.safetensors");
    assertEquals(0, halter("map", "--out", map).code());
    JsonNode rows =
        halter(
                "neurons",
                "--map",
                map,
                "--token",
                "dog",
                "--verify",
                "--ask",
                QUESTION,
                "--top",
                3,
                "--candidates",
                6,
                "--value",
                "-40,20",
                "--json")
            .json();
    assertEquals(3, rows.size());
    JsonNode best = rows.get(0);
    assertEquals(
        List.of(
            "layer",
            "neuron",
            "sign",
            "rank",
            "token_id",
            "token",
            "logit",
            "probability",
            "site",
            "value",
            "before",
            "after",
            "change",
            "top_token",
            "control"),
        keys(best));
    assertEquals(List.of("neuron", "value", "after", "change"), keys(best.get("control")));
    assertEquals(" dog", best.get("top_token").asText());
    double change = best.get("change").asDouble();
    assertEquals(best.get("after").asDouble() - best.get("before").asDouble(), change);
    assertTrue(
        change > 0.3 && best.get("control").get("change").asDouble() < 0.03, best.toString());
    // The same clamp by the other command.
    JsonNode dose =
        halter(
                "dose",
                "--neuron",
                best.get("layer") + "." + best.get("neuron"),
                "--values",
                best.get("value"),
                "--ask",
                QUESTION,
                "--token",
                "dog",
                "--json")
            .json();
    assertEquals(best.get("after"), dose.get(0).get("probability"));
    String table =
        halter("neurons", "--map", map, "--token", "dog", "--verify", "--ask", QUESTION).out();
    assertEquals(12, table.lines().count(), table);
  }

  @Test
  void mapsHoldWhatTheirNamesSayAndAgreeWithThemselves() {
    Path model = golden("llama3").resolve("model");
    Path up = folder.resolve("up.safetensors");
    Path gate = folder.resolve("gate.safetensors");
    assertEquals(0, halter("map", "--model", model, "--out", up, "--top", 3).code());
    assertEquals(
        0, halter("map", "--model", model, "--out", gate, "--top", 3, "--proj", "gate").code());
    try (Safetensors file = Safetensors.open(up)) {
      assertTrue(file.tensor("token_ids").hasShape(3, 80, 2, 3));
      assertTrue(file.tensor("logits").hasShape(3, 80, 2, 3));
      assertTrue(file.names().contains("log_z") && file.names().contains("weight_norm"));
    }
    JsonNode same = halter("agree", up, up, "--json").json();
    assertEquals(List.of("agreement", "per_layer", "top_k", "per_sign", "neurons"), keys(same));
    assertEquals(1, same.get("agreement").asDouble());
    assertEquals(3, same.get("per_layer").size());
    assertEquals(
        "{\"k\":3,\"overlap\":1.0,\"per_layer\":[1.0,1.0,1.0]}", same.get("top_k").toString());
    JsonNode other = halter("agree", up, gate, "--json").json();
    assertTrue(other.get("agreement").asDouble() < 1, "gate's rows are not up's");

    String error = halter("neurons", "--map", up, "--neuron", "0.0").error(1);
    assertTrue(error.contains(up.toString()) && error.contains("--any-model"), error);
    error = halter("neurons", "--map", up, "--neuron", "0.0", "--any-model").error(1);
    assertTrue(error.contains("tokens"), "its vocabulary is another: " + error);
  }

  @Test
  void agreementFallsByTheNeuronsThatDiffer() throws IOException {
    Path model = golden("llama3").resolve("model");
    Path twin = Files.createDirectory(folder.resolve("twin"));
    for (String file : List.of("config.json", "model.safetensors")) {
      Files.copy(model.resolve(file), twin.resolve(file));
    }
    negateHalfOfUpProjection(twin.resolve("model.safetensors"), 1, 80, 48);
    Path a = folder.resolve("a.safetensors");
    Path b = folder.resolve("b.safetensors");
    assertEquals(0, halter("map", "--model", model, "--out", a).code());
    assertEquals(0, halter("map", "--model", twin, "--out", b).code());
    JsonNode agreement = halter("agree", a, b, "--json").json();
    assertEquals("[1.0,0.5,1.0]", agreement.get("per_layer").toString());
    assertEquals(2.5 / 3, agreement.get("agreement").asDouble(), 1e-12);
  }

  /** The first half of the rows of a bf16 up_proj [neurons, width]: their signs change tokens. */
  private static void negateHalfOfUpProjection(Path weights, int layer, int neurons, int width)
      throws IOException {
    byte[] bytes = Files.readAllBytes(weights);
    ByteBuffer file = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    int data = 8 + (int) file.getLong(0);
    JsonNode header = CommandLineRun.parse(new String(bytes, 8, data - 8, StandardCharsets.UTF_8));
    JsonNode up = header.get("model.layers." + layer + ".mlp.up_proj.weight");
    assertEquals("BF16", up.get("dtype").asText());
    int begin = data + up.get("data_offsets").get(0).asInt();
    for (int i = 0; i < neurons / 2 * width; i++) {
      bytes[begin + 2 * i + 1] ^= (byte) 0x80;
    }
    Files.write(weights, bytes);
  }

  @Test
  void aMapIsExportedAndShownWithOrWithoutMakingIt() throws IOException {
    Path map = folder.resolve("up.safetensors");
    Path csv = folder.resolve("up.csv");
    Path lines = folder.resolve("up.jsonl");
    Path page = folder.resolve("atlas.html");
    JsonNode made = halter("map", "--out", map, "--top", 3, "--export", csv, "--json").json();
    assertEquals(List.of("device", "neurons", "map_seconds", "out", "export"), keys(made));
    JsonNode rest =
        halter(
                "map",
                "--map",
                map,
                "--export",
                lines,
                "--html",
                page,
                "--concept",
                "dog",
                "--ask",
                QUESTION,
                "--values",
                "-40,0",
                "--candidates",
                4,
                "--json")
            .json();
    assertEquals(List.of("export", "html"), keys(rest));
    long rows = 2L * 3 * made.get("neurons").asInt();
    try (var read = Files.lines(lines)) {
      assertEquals(rows, read.count());
    }
    JsonNode first = CommandLineRun.parse(Files.readAllLines(lines).getFirst());
    JsonNode row = halter("neurons", "--map", map, "--neuron", "0.0", "--json").json().get(0);
    for (String key : List.of("layer", "neuron", "sign", "rank", "token_id", "token", "logit")) {
      assertEquals(row.get(key), first.get(key));
    }
    assertTrue(Files.readString(csv).startsWith("layer,neuron,proj,sign,rank,"));
    assertTrue(Files.readString(page).contains("\"concept\":\"dog\""));
    String error =
        halter("map", "--map", map, "--html", page, "--concept", "xyzzy", "--ask", "a").error(1);
    assertTrue(error.contains("no single token"), error);
  }

  /** dose's figures again, from the logits that capture writes under the same clamp. */
  @Test
  void doseIsWhatCapturedLogitsSay() throws IOException {
    JsonNode rows =
        halter(
                "dose",
                "--neuron",
                "1.5",
                "--values",
                "-30,0,30",
                "--ask",
                QUESTION,
                "--token",
                "cat",
                "--json")
            .json();
    assertEquals(3, rows.size());
    List<Double> probabilities = new ArrayList<>();
    JsonNode tokens = halter("tokens", "--ask", QUESTION, "--json").json().get("tokens");
    for (JsonNode row : rows) {
      assertEquals(List.of("value", "probability", "logit", "rank", "top_token"), keys(row));
      Path in = folder.resolve("in.jsonl");
      Path out = folder.resolve("out.safetensors");
      String plan =
          "{\"interventions\":[{\"op\":\"neuron_clamp\",\"site\":\"blocks.1.mlp.hook_pre_linear\","
              + "\"neurons\":[5],\"value\":%s}]}".formatted(row.get("value"));
      Files.writeString(in, "{\"id\":\"x\",\"tokens\":%s,\"plan\":%s}%n".formatted(tokens, plan));
      assertEquals(0, halter("capture", "--in", in, "--out", out, "--sites", "logits").code());
      try (Safetensors dump = Safetensors.open(out)) {
        float[] logits = dump.tensor("x/logits").toFloats();
        int vocabulary = (int) dump.tensor("x/logits").size(1);
        int last = logits.length - vocabulary;
        double sum = 0;
        int rank = 0;
        for (int i = last; i < logits.length; i++) {
          sum += Math.exp(logits[i]);
          rank += logits[i] > row.get("logit").floatValue() ? 1 : 0;
        }
        double probability = Math.exp(row.get("logit").asDouble()) / sum;
        assertEquals(probability, row.get("probability").asDouble(), 1e-5);
        assertEquals(rank, row.get("rank").asInt());
      }
      probabilities.add(row.get("probability").asDouble());
    }
    assertEquals(3, probabilities.stream().distinct().count(), "the clamp must act");
  }

  @Test
  void doseDrawsItsCurve() throws IOException {
    for (String ending : List.of("svg", "png", "html")) {
      Path curve = folder.resolve("curve." + ending);
      Object[] dose = {
        "dose",
        "--neuron",
        Demo.DOG_ADDRESS,
        "--values",
        "20,-40",
        "--ask",
        QUESTION,
        "--token",
        "dog",
        "--out",
        curve
      };
      String table = halter(dose).out();
      if (ending.equals("svg")) {
        String svg = Files.readString(curve);
        String before = table.lines().toList().get(1).strip().split(" +")[1];
        assertTrue(svg.contains(">unsteered: " + before + "</text>"), before);
        // Points come by value, as they stand in the table.
        List<String> points =
            Pattern.compile("held at (\\S+): probability ([0-9.]+)")
                .matcher(svg)
                .results()
                .map(point -> point.group(1) + " " + point.group(2))
                .toList();
        List<String> rows = table.lines().skip(2).map(row -> row.strip()).toList();
        assertEquals(
            Stream.of(rows.get(1), rows.get(0))
                .map(row -> row.split(" +")[0] + " " + row.split(" +")[1])
                .toList(),
            points);
        assertTrue(svg.contains(Demo.DOG_SITE + " of neuron " + Demo.DOG_NEURON), svg);
      }
      assertTrue(Files.size(curve) > 1000);
    }
    String error =
        halter(
                "dose",
                "--neuron",
                "1.2",
                "--values",
                "1",
                "--ask",
                "a",
                "--token",
                "dog",
                "--out",
                "curve.jpg")
            .error(2);
    assertTrue(error.contains("--out is curve.jpg, must end in .svg, .png or .html"), error);
  }
}
