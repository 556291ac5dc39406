package dev.halter.serving;

import static dev.halter.serving.TestServer.CAT;
import static dev.halter.serving.TestServer.QUESTION;
import static dev.halter.serving.TestServer.setup;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.Demo;
import dev.halter.cli.CommandLineRun;
import dev.halter.weights.ControlVector;
import dev.halter.weights.Safetensors;
import io.airlift.compress.v3.zstd.ZstdNativeCompressor;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A plan in another server's words does what it does in ours. */
class DialectsTest {
  private static final int D_MODEL = Demo.CONFIG.dModel();
  private static final int LAYERS = Demo.CONFIG.nLayers();
  private static final float[] V = vector(3);
  private static final float[] W = vector(5);
  private static final String[] KEY = {"Authorization", "Bearer sesame"};

  @TempDir Path folder;

  /** A vector whose values bfloat16 and float16 hold too. */
  private static float[] vector(int seed) {
    Random random = new Random(seed);
    float[] vector = new float[D_MODEL];
    for (int i = 0; i < vector.length; i++) {
      vector[i] = Math.round(16 * random.nextGaussian()) / 16f;
    }
    return vector;
  }

  private static byte[] bytes(float[]... rows) {
    ByteBuffer bytes = ByteBuffer.allocate(4 * rows.length * D_MODEL);
    bytes.order(ByteOrder.LITTLE_ENDIAN);
    for (float[] row : rows) {
      for (float value : row) {
        bytes.putFloat(value);
      }
    }
    return bytes.array();
  }

  private static byte[] halves(boolean isBfloat, float[]... rows) {
    ByteBuffer bytes = ByteBuffer.allocate(2 * rows.length * D_MODEL);
    bytes.order(ByteOrder.LITTLE_ENDIAN);
    for (float[] row : rows) {
      for (float value : row) {
        bytes.putShort(
            isBfloat
                ? (short) (Float.floatToRawIntBits(value) >> 16)
                : Float.floatToFloat16(value));
      }
    }
    return bytes.array();
  }

  private static String base64(byte[] bytes) {
    return Base64.getEncoder().encodeToString(bytes);
  }

  private static String base64(float[]... rows) {
    return base64(bytes(rows));
  }

  /** Fields that bring a plan of our own. */
  private static String own(String... interventions) {
    return ", 'plan': {'interventions': [" + String.join(", ", interventions) + "]}";
  }

  private static String add(int layer, float[] vector, double scale, String more) {
    return edit("add", layer, vector, "'scale': " + scale + more);
  }

  private static String edit(String op, int layer, float[] vector, String more) {
    return "{'op': '%s', 'site': 'blocks.%d.hook_resid_post', 'vector': {'base64': '%s'}%s}"
        .formatted(op, layer, base64(vector), more.isEmpty() ? "" : ", " + more);
  }

  private static String when(String selectors) {
    return ", 'when': {" + selectors + "}";
  }

  /** What a completion says, and by which plan. */
  private record Answer(String text, String id) {}

  private static Answer ask(TestServer server, String how, String fields, String... headers) {
    JsonNode answer =
        server
            .post(
                "/v1/completions",
                "{'prompt': '%s', 'max_tokens': 16%s%s}".formatted(QUESTION, how, fields),
                headers)
            .ok();
    return new Answer(
        answer.get("choices").get(0).get("text").asText(),
        answer.get("halter").get("plan_id").asText(null));
  }

  /** Asserts that both fields steer, and alike: greedy and by a seed. */
  private static void assertAlike(TestServer server, String dialect, String own) {
    for (String how : List.of(", 'temperature': 0", ", 'temperature': 1, 'seed': 11")) {
      Answer steered = ask(server, how, own);
      assertNotEquals(ask(server, how, "").text, steered.text, own);
      assertEquals(steered, ask(server, how, dialect), dialect);
    }
  }

  private static JsonNode refused(TestServer server, String fields, String... words) {
    JsonNode error = server.post("/v1/completions", "{'prompt': 'a b c'" + fields + "}").error(400);
    for (String word : words) {
      assertTrue(error.get("message").asText().contains(word), error.toString());
    }
    return error;
  }

  // EasySteer

  private static String spec(String conflict, String... vectors) {
    return "{'conflict': '%s', 'vectors': [%s]}".formatted(conflict, String.join(", ", vectors));
  }

  private static String steering(String... vectors) {
    return ", 'steering': " + spec("sequential", vectors);
  }

  private static String data(Map<Integer, float[]> layers) {
    List<String> tensors = new ArrayList<>();
    new TreeMap<>(layers)
        .forEach(
            (layer, vector) ->
                tensors.add(
                    "'layer.%d': {'shape': [%d], 'data': '%s'}"
                        .formatted(layer, D_MODEL, base64(vector))));
    return "'data': {'version': 1, 'kind': 'direction', 'tensors': {%s}, 'extra': {}, 'sha256': 'x'}"
        .formatted(String.join(", ", tensors));
  }

  private static String easy(String source, String more, String apply) {
    return "{%s%s, 'apply': {%s}}".formatted(source, more, apply);
  }

  private static final String ALL = "'prompt': 'all', 'generation': 'all'";

  @Test
  void easySteersVectorsAddAndErase() throws IOException {
    try (TestServer server = setup().plans(folder).start()) {
      String data = data(Map.of(1, V));
      assertAlike(server, steering(easy(data, ", 'scale': 40", ALL)), own(add(1, V, 40, "")));
      assertAlike(
          server,
          steering(easy(data(Map.of(1, V, 2, W)), ", 'scale': 30", ALL)),
          own(add(1, V, 30, ""), add(2, W, 30, "")));
      assertAlike(
          server,
          steering(easy(data(Map.of(0, V, 2, W)), ", 'scale': 40, 'layers': [2]", ALL)),
          own(add(2, W, 40, "")));
      String added = add(1, V, 300, "");
      String erased = own(added, edit("ablate", 3, V, ""));
      assertAlike(
          server,
          steering(
              easy(data, ", 'scale': 300", ALL),
              easy(data(Map.of(3, V)), ", 'algorithm': 'erase', 'scale': -3", ALL)),
          erased);
      String how = ", 'temperature': 0";
      assertNotEquals(ask(server, how, own(added)).text, ask(server, how, erased).text);
    }
  }

  @Test
  void easySteersTokensInBothSpellings() throws IOException {
    String data = data(Map.of(1, V));
    String[][] alike = {
      {"'phases': ['prompt', 'generation']", "'prompt': 'all', 'generation': 'all'"},
      {"'phases': ['generation']", "'generation': 'all'"},
      {"'phases': ['prompt'], 'prompt_positions': [-1, -2]", "'prompt_positions': [-1, -2]"},
      {
        "'phases': ['prompt', 'generation'], 'generation_window': [0, 9]",
        "'generation_window': [0, 9]"
      },
      {
        "'phases': ['prompt', 'generation'], 'exclude_prompt_positions': [0]",
        "'prompt': 'all', 'generation': 'all', 'exclude_prompt_positions': [0]"
      },
    };
    try (TestServer server = TestServer.start()) {
      for (String[] each : alike) {
        String own = own(add(1, V, -300, when(each[1])));
        assertAlike(server, steering(easy(data, ", 'scale': -300", each[1])), own);
        assertAlike(server, steering(easy(data, ", 'scale': -300", each[0])), own);
      }
      for (String bad :
          List.of(
              "'phases': []",
              "'phases': ['prefill']",
              "'phases': ['prompt'], 'prompt': 'all'",
              "'phases': ['prompt'], 'generation_window': [0, 9]",
              "'phases': ['prompt', 'prompt']",
              "'prompt_window': [4, 2]",
              "'tokens': [1]",
              "'prompt': 'none'",
              "")) {
        refused(server, steering(easy(data, "", bad)), "steering.vectors[0].apply");
      }
    }
  }

  @Test
  void easySteersConflicts() throws IOException {
    String one = data(Map.of(1, V));
    String two = data(Map.of(1, W));
    String both =
        easy(one, ", 'scale': 60", "'prompt_positions': [-1], 'generation_window': [0, 2]")
            + ", "
            + easy(two, ", 'scale': 60", ALL);
    String first = add(1, V, 60, when("'prompt_positions': [-1], 'generation_window': [0, 2]"));
    try (TestServer server = TestServer.start()) {
      assertAlike(
          server,
          ", 'steering': " + spec("priority", both),
          own(
              first,
              add(
                  1,
                  W,
                  60,
                  when(
                      ALL
                          + ", 'exclude_prompt_positions': [-1], 'exclude_generation_window': [0,"
                          + " 2]"))));
      assertAlike(
          server, ", 'steering': " + spec("sequential", both), own(first, add(1, W, 60, "")));
      assertAlike( // at other layers, or in other phases, they do not meet
          server,
          ", 'steering': "
              + spec(
                  "error",
                  easy(one, ", 'scale': 60", "'generation': 'all'"),
                  easy(two, ", 'scale': 60", "'prompt': 'all'"),
                  easy(data(Map.of(2, W)), "", ALL)),
          own(
              add(1, V, 60, when("'generation': 'all'")),
              add(1, W, 60, when("'prompt': 'all'")),
              add(2, W, 1, "")));
      refused(server, ", 'steering': " + spec("error", both), "steering.vectors[1]", "error");
      String always = easy(one, "", ALL) + ", " + easy(two, "", "'generation': 'all'");
      refused(server, ", 'steering': " + spec("priority", always), "never acts", "sequential");
      String clamped = easy(one, "", "'prompt_positions': [3]") + ", " + easy(two, "", ALL);
      refused(server, ", 'steering': " + spec("priority", clamped), "sequential");
    }
  }

  @Test
  void easySteersFilesAreThoseOfTheFolder() throws IOException {
    ControlVector happy =
        new ControlVector(
            Optional.of("llama"), Optional.empty(), new TreeMap<>(Map.of(1, V, 2, W)));
    happy.write(folder.resolve("happy.gguf"));
    happy.write(folder.resolveSibling("outside.gguf"));
    ControlVector deep =
        new ControlVector(Optional.of("llama"), Optional.empty(), new TreeMap<>(Map.of(LAYERS, V)));
    deep.write(folder.resolve("deep.gguf"));
    Path adminKeys = Files.writeString(folder.resolve("admin"), "sesame\n");
    try (TestServer server = setup().plans(folder).adminKeys(adminKeys).start()) {
      assertAlike(
          server,
          steering(easy("'source': 'happy.gguf'", ", 'scale': 30", ALL)),
          own(add(1, V, 30, ""), add(2, W, 30, "")));
      assertAlike(
          server,
          steering(easy("'source': 'happy.gguf'", ", 'scale': 40, 'layers': [1]", ALL)),
          own(add(1, V, 40, "")));
      for (String source :
          List.of("../outside.gguf", folder.resolve("happy.gguf").toString(), "./happy.gguf")) {
        String at = "'source': '" + source + "'";
        refused(server, steering(easy(at, "", ALL)), "is no name here");
        refused(server, steering(easy(at, ", 'layers': [1]", ALL)), "is no name here");
        String message =
            plain(server.post("/v1/steering/vectors", "{'paths': ['" + source + "']}"), 400);
        assertTrue(message.contains("is no name here"), message);
      }
      String error =
          refused(server, steering(easy("'source': 'deep.gguf'", "", ALL)), "deep.gguf")
              .get("message")
              .asText();
      assertFalse(error.contains(folder.toString()), error);
      refused(
          server, steering(easy("'source': 'happy.gguf'", ", 'layers': [0]", ALL)), "direction.0");
      refused(server, steering(easy("'source': 'happy.gguf|direct'", "", ALL)), "is no name here");
      plain(server.post("/v1/steering/vectors", "{'paths': ['deep.gguf']}"), 400);
      plain(server.post("/v1/steering/vectors", "{'paths': []}"), 400);
      JsonNode loaded =
          server
              .post("/v1/steering/vectors", "{'paths': ['happy.gguf'], 'algorithm': 'direct'}")
              .ok();
      assertEquals("happy.gguf", loaded.get("preloaded").get(0).asText());
      assertEquals(loaded, server.get("/v1/steering/vectors").ok());
    }
  }

  @Test
  void easySteersDefaultIsForThoseWhoBringNone() throws IOException {
    Path adminKeys = Files.writeString(folder.resolve("admin"), "sesame\n");
    String spec = spec("priority", easy(data(Map.of(1, V)), ", 'scale': 40", ALL));
    try (TestServer server = setup().adminKeys(adminKeys).start()) {
      Answer steered = ask(server, ", 'temperature': 0", ", 'steering': " + spec);
      plain(server.post("/v1/steering", "{'spec': " + spec + "}"), 401);
      plain(server.post("/v1/steering", "{'spec': {'vectors': []}}", KEY), 400);
      plain(server.post("/v1/steering", "{}", KEY), 400);
      assertEquals(CAT, server.complete(""), "none of these has set anything");
      JsonNode set = server.post("/v1/steering", "{'spec': " + spec + "}", KEY).ok();
      assertTrue(set.get("active").asBoolean());
      assertEquals(
          "direction", set.get("spec").get("vectors").get(0).get("data").get("kind").asText());
      assertFalse(set.toString().contains(base64(V)), "it is long");
      assertEquals(set, server.get("/v1/steering").ok());
      assertEquals(steered, ask(server, ", 'temperature': 0", ""));
      assertEquals(CAT, server.complete(", 'steering': false"));
      assertEquals(TestServer.DOG, server.complete(", 'plan': 'dogs'"));
      assertFalse(
          server.post("/v1/steering", "{'spec': null}", KEY).ok().get("active").asBoolean());
      assertEquals(CAT, server.complete(""));
    }
  }

  @Test
  void whatOfEasySteerNoPlanCanSayIsRefused() throws IOException {
    String data = data(Map.of(1, V));
    try (TestServer server = TestServer.start()) {
      String[][] bad = {
        {easy(data, ", 'normalize': true", ALL), "normalize"},
        {easy(data, ", 'algorithm': 'loreft'", ALL), "direct or erase"},
        {easy(data, ", 'algorithm': 'erase', 'scale': 0", ALL), "scale"},
        {easy(data, ", 'params': {'mode': 'soft'}", ALL), "mode"},
        {easy(data, ", 'layers': [2]", ALL), "layers"},
        {easy(data, ", 'layers': [9]", ALL), "layers"},
        {easy(data, ", 'scale': 1e40", ALL), "scale"},
        {easy(data, ", 'phase': 1", ALL), "phase"},
        {easy(data + ", 'source': 'v.gguf'", "", ALL), "not both"},
        {easy("'scale': 1", "", ALL), "source"},
        {easy(data.replace("'direction'", "'linear'"), "", ALL), "direction"},
        {easy(data.replace("layer.1", "layer.9"), "", ALL), "layer.9"},
        {easy(data.replace("layer.1", "layer.01"), "", ALL), "layer.01"},
        {easy(data.replace("[192]", "[191]"), "", ALL), "shape"},
        {easy(data.replace(base64(V), "AAAA"), "", ALL), "data"},
        {easy(data.replace("'version': 1", "'version': 2"), "", ALL), "version"},
        {"{" + data + "}", "apply"},
      };
      for (String[] each : bad) {
        refused(server, steering(each[0]), each[1]);
      }
      refused(server, ", 'steering': 'happy'", "steering");
      refused(server, ", 'steering': true", "steering");
      refused(server, ", 'steering': {'vectors': []}", "steering.vectors");
      refused(server, ", 'steering': " + spec("last", easy(data, "", ALL)), "conflict");
    }
  }

  // RhizoNymph

  private static String packed(String type, byte[] data, String layers, String more) {
    int rows = layers.split(",", -1).length;
    return "{'dtype': '%s', 'shape': [%d, %d], 'layer_indices': [%s], 'data': '%s'%s}"
        .formatted(type, rows, D_MODEL, layers, base64(data), more);
  }

  @Test
  void rhizoNymphsVectorsAreAddedInTiers() throws IOException {
    String list = Arrays.toString(V);
    try (TestServer server = TestServer.start()) {
      String own = own(add(1, V, 40, ""));
      for (String hook :
          List.of(
              "{'1': {'vector': " + list + ", 'scale': 40}}",
              packed("float32", bytes(V), "1", ", 'scales': [40]"),
              packed("float16", halves(false, V), "1", ", 'scales': [40.0]"),
              packed("bfloat16", halves(true, V), "1", ", 'scales': [40]"))) {
        assertAlike(server, ", 'steering_vectors': {'post_block': " + hook + "}", own);
      }
      assertAlike(
          server,
          ", 'steering_vectors': {'post_block': %s}, 'prefill_steering_vectors': {'post_block': %s}"
                  .formatted(
                      packed("float32", bytes(V, W), "1, 2", ", 'scales': [30, 20]"),
                      packed("float32", bytes(W), "1", ", 'scales': [25]"))
              + ", 'decode_steering_vectors': {'post_block': {'1': {'vector': "
              + list
              + ", 'scale': -70}}}",
          own(
              add(1, V, 30, ""),
              add(2, W, 20, ""),
              add(1, W, 25, when("'prompt': 'all'")),
              add(1, V, -70, when("'generation': 'all'"))));
      String[][] hooks = {
        {"pre_attn", "hook_resid_pre"}, {"post_attn", "hook_resid_mid"}, {"mlp_out", "hook_mlp_out"}
      };
      for (String[] hook : hooks) {
        assertAlike(
            server,
            ", 'steering_vectors': {'%s': %s}"
                .formatted(hook[0], packed("float32", bytes(V), "2", ", 'scales': [60]")),
            own(add(2, V, 60, "").replace("hook_resid_post", hook[1])));
      }
    }
  }

  @Test
  void rhizoNymphsClampsActAfterItsVectors() throws IOException {
    String list = Arrays.toString(W);
    try (TestServer server = TestServer.start()) {
      String vectors =
          ", 'steering_vectors': {'post_block': "
              + packed("float32", bytes(V), "1", ", 'scales': [20]")
              + "}";
      String own =
          own(
              add(1, V, 20, ""),
              edit("project_clamp", 1, V, "'min': 30, 'max': 30, 'strength': 0.5"),
              edit("project_clamp", 1, W, "'max': -20"),
              edit("project_clamp", 2, W, "'min': 15" + when("'generation': 'all'")));
      assertAlike(
          server,
          ", 'steering_clamps': {'post_block': {'1': [{'vector': %s, 'value': 30, 'strength': 0.5}, {'vector': %s, 'max': -20}]}}"
                  .formatted(Arrays.toString(V), list)
              + ", 'decode_steering_clamps': {'post_block': {'2': [{'vector': %s, 'min': 15}]}}"
                  .formatted(list)
              + vectors,
          own);
      assertAlike(
          server,
          ", 'steering_clamps': {'post_block': %s}, 'decode_steering_clamps': {'post_block': %s}"
                  .formatted(
                      packed(
                          "float32",
                          bytes(V, W),
                          "1, 1",
                          ", 'bounds': [[30, 30], [null, -20]], 'strengths': [0.5, 1]"),
                      packed(
                          "float32", bytes(W), "2", ", 'bounds': [[15, null]], 'strengths': [1]"))
              + vectors,
          own);
    }
  }

  @Test
  void rhizoNymphsNamesAreRegisteredByWhoHasTheKey() throws IOException {
    Path adminKeys = Files.writeString(folder.resolve("admin"), "sesame\n");
    String hook = packed("float32", bytes(V), "1", ", 'scales': [40]");
    String module = "{'name': 'odd', 'vectors': {'post_block': " + hook + "}}";
    String vector =
        "{'name': 'v', 'kind': 'steer', 'packed': {'post_block': "
            + packed("float32", bytes(V), "1", "")
            + "}}";
    try (TestServer server = setup().adminKeys(adminKeys).start()) {
      refused(server, ", 'steering_name': 'odd'", "steering_name");
      plain(server.post("/v1/steering/modules/register", module), 401);
      JsonNode registered = server.post("/v1/steering/modules/register", module, KEY).ok();
      assertEquals("odd", registered.get("modules").get(0).asText());
      assertEquals(1, server.get("/v1/steering/modules").ok().get("count").asInt());
      assertAlike(server, ", 'steering_name': 'odd'", own(add(1, V, 40, "")));
      assertAlike(
          server,
          ", 'steering_name': 'odd', 'steering_vectors': {'post_block': "
              + packed("float32", bytes(W), "2", ", 'scales': [9]")
              + "}",
          own(add(1, V, 40, ""), add(2, W, 9, "")));
      // A name that means something else is read anew.
      String other = module.replace("[40]", "[-40]");
      server.post("/v1/steering/modules/register", other, KEY).ok();
      assertAlike(server, ", 'steering_name': 'odd'", own(add(1, V, -40, "")));
      server.post("/v1/steering/modules/unregister", "{'name': 'odd'}", KEY).ok();
      plain(server.post("/v1/steering/modules/unregister", "{'name': 'odd'}", KEY), 404);
      refused(server, ", 'steering_name': 'odd'", "steering_name");

      plain(server.post("/v1/steering/vectors/register", vector), 401);
      server.post("/v1/steering/vectors/register", vector, KEY).ok();
      String message =
          plain(
              server.post("/v1/steering/vectors/register", vector.replace("steer", "probe"), KEY),
              400);
      assertTrue(message.contains("probes"), message);
      JsonNode vectors = server.get("/v1/steering/vectors").ok();
      assertEquals("v", vectors.get("vectors").get("steer").get(0).asText());
      assertEquals(1, vectors.get("count").asInt());
      String gate =
          "{'when': {'kind': 'always'}, 'scope': 'rest_of_request', 'apply': {'kind': 'add',"
              + " 'steer': %s, 'strength': 40}}";
      String own = own(add(1, V, 40, when("'generation': 'all'")));
      assertAlike(
          server, ", 'steering': [" + gate.formatted("{'kind': 'name', 'name': 'v'}") + "]", own);
      assertAlike(
          server,
          ", 'steering': ["
              + gate.formatted(
                  "{'kind': 'inline', 'packed': {'post_block': "
                      + packed("float32", bytes(V), "1", "")
                      + "}}")
              + "]",
          own);
      server.post("/v1/steering/vectors/unregister", "{'name': 'v', 'kind': 'steer'}", KEY).ok();
      plain(
          server.post("/v1/steering/vectors/unregister", "{'name': 'v', 'kind': 'steer'}", KEY),
          404);
      refused(
          server,
          ", 'steering': [" + gate.formatted("{'kind': 'name', 'name': 'v'}") + "]",
          "steering[0].apply.steer.name");
      refused(
          server,
          ", 'steering': [{'when': {'kind': 'probe', 'probe': {}, 'threshold': 1}, 'scope':"
              + " 'this_token', 'apply': {'kind': 'add'}}]",
          "no probe decides here");
      assertFalse(server.get("/v1/steering/dynamic").ok().get("enabled").asBoolean());
      assertEquals(LAYERS, server.get("/v1/steering/layers").ok().get("layers").size());
    }
  }

  @Test
  void whatRhizoNymphSetsActsOnEveryRequestAndWholly() throws IOException {
    Path adminKeys = Files.writeString(folder.resolve("admin"), "sesame\n");
    try (TestServer closed = TestServer.start()) {
      plain(closed.post("/v1/steering/set", "{}"), 403);
    }
    String one =
        "{'vectors': {'post_block': " + packed("float32", bytes(V), "1", ", 'scales': [40]") + "}}";
    try (TestServer plain = TestServer.start();
        TestServer server = setup().adminKeys(adminKeys).start()) {
      String how = ", 'temperature': 0";
      final Answer byV = ask(server, how, own(add(1, V, 40, "")));
      plain(server.post("/v1/steering/set", one), 401);
      plain(server.post("/v1/steering/set", "{}", KEY), 400);
      // One bad layer among good ones: nothing of it acts.
      String half =
          "{'vectors': {'post_block': %s}, 'decode_vectors': {'post_block': {'9': %s}}, 'replace': true}"
              .formatted(packed("float32", bytes(V), "1", ""), Arrays.toString(W));
      plain(server.post("/v1/steering/set", half, KEY), 400);
      plain(
          server.post(
              "/v1/steering/set", one.replace("'vectors'", "'target': 'draft', 'vectors'"), KEY),
          400);
      assertEquals(CAT, server.complete(""));
      JsonNode set = server.post("/v1/steering/set", one, KEY).ok();
      assertEquals(
          "{\"status\":\"ok\",\"hook_points\":[\"post_block\"],\"layers_updated\":[1]}",
          set.toString());
      assertEquals(byV, ask(server, how, ""));
      assertEquals(byV.text, ask(server, how, ", 'model': 'demo'").text);
      double norm =
          server
              .get("/v1/steering")
              .ok()
              .get("active_layers")
              .get("1")
              .get("post_block")
              .get("norm")
              .asDouble();
      assertTrue(norm > 300, "of 40 times a vector of 192 values: " + norm);
      // Other layers stay as they are, the same one is replaced.
      server
          .post(
              "/v1/steering/set",
              "{'vectors': {'post_block': %s}, 'clamps': {'post_block': {'1': [{'vector': %s, 'value': 5}]}}}"
                  .formatted(packed("float32", bytes(W, W), "1, 2", ""), Arrays.toString(V)),
              KEY)
          .ok();
      String clamp = edit("project_clamp", 1, V, "'min': 5, 'max': 5");
      assertEquals(
          ask(server, how, "").text,
          ask(plain, how, own(add(1, W, 1, ""), add(2, W, 1, ""), clamp)).text);
      // A request's own vectors come before the clamps for all; other plans after them.
      assertEquals(
          ask(
                  server,
                  how,
                  ", 'steering_vectors': {'post_block': {'1': " + Arrays.toString(V) + "}}")
              .text,
          ask(plain, how, own(add(1, W, 1, ""), add(2, W, 1, ""), add(1, V, 1, ""), clamp)).text);
      Answer after = ask(server, how, own(add(1, V, 60, "")));
      assertEquals(
          ask(plain, how, own(add(1, W, 1, ""), add(2, W, 1, ""), clamp, add(1, V, 60, ""))),
          after);
      server.post("/v1/steering/set", one.replace("}}}", "}}, 'replace': true}"), KEY).ok();
      assertEquals(byV, ask(server, how, ""));
      assertEquals(200, server.send("POST", "/v1/steering/clear", null, KEY).status());
      assertEquals(CAT, server.complete(""));
    }
  }

  @Test
  void whatOfRhizoNymphNoPlanCanSayIsRefused() throws IOException {
    String rows = packed("float32", bytes(V), "1", "");
    try (TestServer server = TestServer.start()) {
      String[][] bad = {
        {"'steering_vectors': {'mlp_in': " + rows + "}", "mlp_in"},
        {"'steering_vectors': {}", "at least one vector"},
        {"'steering_vectors': []", "steering_vectors"},
        {"'steering_vectors': {'post_block': {'4': []}}", "post_block.4"},
        {"'steering_vectors': {'post_block': {'1': [1, 2]}}", "192"},
        {"'steering_vectors': {'post_block': {'one': []}}", "post_block.one"},
        {"'steering_vectors': {'post_block': " + rows.replace("[1]", "[4]") + "}", "layer_indices"},
        {
          "'steering_vectors': {'post_block': " + rows.replace("[1]", "[1, 2]") + "}",
          "layer_indices"
        },
        {"'steering_vectors': {'post_block': " + rows.replace("float32", "int8") + "}", "dtype"},
        {"'steering_vectors': {'post_block': " + rows.replace("float32", "float64") + "}", "data"},
        {
          "'steering_vectors': {'post_block': " + rows.replace("[1, 192]", "[1, 191]") + "}",
          "shape"
        },
        {
          "'steering_vectors': {'post_block': "
              + rows.replace("[1, 192]", "[2000000000, 2000000000]")
              + "}",
          "shape"
        },
        {
          "'steering_vectors': {'post_block': " + rows.replace("'data': '", "'data': '%") + "}",
          "base64"
        },
        {
          "'steering_clamps': {'post_block': {'1': [{'vector': " + Arrays.toString(V) + "}]}}",
          "value"
        },
        {
          "'steering_clamps': {'post_block': {'1': [{'vector': "
              + Arrays.toString(V)
              + ", 'min': 2, 'max': 1}]}}",
          "min"
        },
        {
          "'steering_clamps': {'post_block': {'1': [{'vector': "
              + Arrays.toString(V)
              + ", 'value': 2, 'strength': 2}]}}",
          "strength"
        },
        {
          "'steering_clamps': {'post_block': {'1': [{'vector': "
              + Arrays.toString(new float[D_MODEL])
              + ", 'value': 2}]}}",
          "not zero"
        },
        {
          "'steering_clamps': {'post_block': "
              + packed("float32", bytes(V), "1", ", 'bounds': [[2, 1]]")
              + "}",
          "bounds"
        },
        {"'steering_clamps': {'post_block': " + rows + "}", "bounds"},
      };
      for (String[] each : bad) {
        refused(server, ", " + each[0], each[1]);
      }
    }
  }

  // vLLM-Lens

  private static String tensor(String shape, byte[] data, String type, boolean compresses) {
    byte[] sent = data;
    if (compresses) {
      ZstdNativeCompressor zstd = new ZstdNativeCompressor();
      byte[] most = new byte[zstd.maxCompressedLength(data.length)];
      sent = Arrays.copyOf(most, zstd.compress(data, 0, data.length, most, 0, most.length));
      System.arraycopy(most, 0, sent, 0, sent.length);
    }
    return "{'data': '%s', %s, 'shape': %s%s}"
        .formatted(base64(sent), type, shape, compresses ? ", 'compression': 'zstd'" : "");
  }

  private static String lens(String tensor, String layers, String more) {
    return ", 'vllm_xargs': {'apply_steering_vectors': [{'activations': %s, 'layer_indices': %s%s}]}"
        .formatted(tensor, layers, more);
  }

  @Test
  void vllmLensAddsVectorsAsItsClientSendsThem() throws IOException {
    String bf16 = "'dtype': 'int16', 'original_dtype': 'torch.bfloat16'";
    String f32 = "'dtype': 'float32', 'original_dtype': 'torch.float32'";
    String one = "[1, 192]";
    try (TestServer server = TestServer.start()) {
      String own = own(add(1, V, 40, ""));
      String[] tensors = {
        tensor(one, bytes(V), f32, true),
        tensor(one, halves(true, V), bf16, true),
        tensor(one, halves(false, V), "'dtype': 'float16'", true),
        tensor(one, bytes(V), "'dtype': 'float32'", false)
      };
      for (String tensor : tensors) {
        assertAlike(server, lens(tensor, "[1]", ", 'scale': 40.0"), own);
      }
      // Its client sends JSON in a text.
      String vectors =
          "[{'activations': %s, 'layer_indices': [1], 'scale': 40, 'norm_match': false, 'position_indices': null}]"
              .formatted(tensors[1]);
      assertAlike(
          server,
          ", 'vllm_xargs': {'apply_steering_vectors': '%s'}".formatted(vectors.replace("'", "\\'")),
          own);
      assertAlike(
          server,
          lens(tensor("[2, 192]", bytes(V, W), f32, true), "[2, 1]", ", 'scale': 30"),
          own(add(2, V, 30, ""), add(1, W, 30, "")));
      assertAlike(
          server,
          lens(
              tensor("[1, 2, 192]", bytes(V, W), f32, true),
              "[1]",
              ", 'scale': 300, 'position_indices': [7, 9]"),
          own(
              add(1, V, 300, when("'prompt_window': [7, 8]")),
              add(1, W, 300, when("'prompt_window': [9, 10]"))));
    }
  }

  @Test
  void vllmLensIsToldTheResidualStreamAsItsClientReadsIt() throws IOException {
    String steers =
        lens(tensor("[1, 192]", bytes(V), "'dtype': 'float32'", true), "[1]", ", 'scale': 40");
    String asks =
        steers.replace("'vllm_xargs': {", "'vllm_xargs': {'output_residual_stream': '[2, 1]', ");
    String body = "{'prompt': '" + QUESTION + "', 'temperature': 0, 'max_tokens': 4%s}";
    try (TestServer server = TestServer.start()) {
      JsonNode answer = server.post("/v1/completions", body.formatted(asks)).ok();
      JsonNode own =
          server
              .post(
                  "/v1/completions",
                  body.formatted(
                      own(add(1, V, 40, ""))
                          + ", 'capture': {'sites': ['blocks.1.hook_resid_post',"
                          + " 'blocks.2.hook_resid_post'], 'positions': {'prompt': 'all',"
                          + " 'generation': 'all'}}"))
              .ok();
      assertEquals(own.get("choices"), answer.get("choices"));
      JsonNode stream = answer.get("activations").get("residual_stream");
      int tokens = server.model.tokenizer().encode(QUESTION, false).length + 3;
      assertEquals("[2," + tokens + ",192]", stream.get("shape").toString());
      Path file = folder.resolve("own.safetensors");
      Files.write(
          file,
          Base64.getDecoder().decode(own.get("halter").get("capture").get("base64").asText()));
      ByteBuffer read =
          ByteBuffer.wrap(Base64.getDecoder().decode(stream.get("data").asText()))
              .order(ByteOrder.LITTLE_ENDIAN);
      try (Safetensors tensors = Safetensors.open(file)) {
        for (int layer = 1; layer <= 2; layer++) {
          for (float value : tensors.tensor("0/blocks." + layer + ".hook_resid_post").toFloats()) {
            assertEquals(value, read.getFloat());
          }
        }
      }
      assertFalse(read.hasRemaining());
      List<JsonNode> events =
          server.post("/v1/completions", body.formatted(asks + ", 'stream': true")).events();
      assertEquals(answer.get("activations"), events.getLast().get("activations"));
      assertEquals(
          "[4," + tokens + ",192]",
          server
              .post(
                  "/v1/completions",
                  body.formatted(", 'vllm_xargs': {'output_residual_stream': true}"))
              .ok()
              .get("activations")
              .get("residual_stream")
              .get("shape")
              .toString());
    }
  }

  @Test
  void whatOfVllmLensNoPlanCanSayIsRefused() throws IOException {
    String f32 = "'dtype': 'float32'";
    String tensor = tensor("[1, 192]", bytes(V), f32, true);
    byte[] bomb = new byte[1 << 20];
    try (TestServer server = TestServer.start()) {
      refused(server, lens(tensor, "[1]", ", 'norm_match': true"), "norm_match");
      refused(server, lens(tensor, "[9]", ""), "layer_indices");
      refused(server, lens(tensor, "[1, 2]", ""), "shape");
      refused(server, lens(tensor, "[1]", ", 'position_indices': [3]"), "position_indices");
      refused(server, lens(tensor, "[1]", ", 'pre': true"), "pre");
      refused(server, lens(tensor.replace("zstd", "gzip"), "[1]", ""), "compression");
      refused(server, lens(tensor("[1, 192]", bytes(V, V), f32, true), "[1]", ""), "zstd");
      refused(server, lens(tensor("[1, 192]", bomb, f32, true), "[1]", ""), "zstd");
      refused(server, lens(tensor.replace("'data': '", "'data': 'AAAA"), "[1]", ""), "zstd");
      refused(
          server,
          lens(tensor("[1, 192]", bytes(V), f32, false), "[1]", "").replace("'float32'", "'int16'"),
          "dtype");
      String placed = tensor("[1, 1, 192]", bytes(V), f32, true);
      refused(server, lens(placed, "[1]", ", 'position_indices': [1000000]"), "position_indices");
      refused(
          server, lens(placed, "[1]", ", 'position_indices': [40]"), "selects none of the prompt");
      refused(
          server, ", 'vllm_xargs': {'output_residual_stream': '[4]'}", "output_residual_stream");
      refused(server, ", 'vllm_xargs': {'output_residual_stream': 5}", "output_residual_stream");
      refused(
          server,
          ", 'vllm_xargs': {'output_residual_stream': [1]}, 'capture': {'sites': ['logits']}",
          "capture");
      refused(server, ", 'vllm_xargs': {'apply_hooks': '[]'}", "never run");
      refused(server, ", 'vllm_xargs': {'kv': 1}", "kv");
      refused(server, ", 'vllm_xargs': {'apply_steering_vectors': '[{'}", "JSON");
      refused(server, ", 'vllm_xargs': {'apply_steering_vectors': 5}", "apply_steering_vectors");
    }
  }

  // Neuronpedia

  private static String steer(String prompt, String vectors, String more) {
    return "{'prompt': %s, 'model': 'demo', 'n_completion_tokens': 16, 'normalize_steering': false, 'strength_multiplier': 2.0, 'freq_penalty': 0.0%s, 'vectors': [%s]}"
        .formatted(prompt, more, vectors);
  }

  private static String np(float[] vector, double strength, int layer) {
    return "{'steering_vector': %s, 'strength': %s, 'hook': 'blocks.%d.hook_resid_post'}"
        .formatted(Arrays.toString(vector), strength, layer);
  }

  private static final String QUOTED = "'" + QUESTION + "'";

  @Test
  void neuronpediasAnswersAreSteeredAndDefaultSideBySide() throws IOException {
    try (TestServer server = TestServer.start()) {
      float norm = 0;
      for (float value : V) {
        norm += value * value;
      }
      norm = (float) Math.sqrt(norm);
      String[][] methods = {
        {"SIMPLE_ADDITIVE", own(add(1, V, 40, ""))},
        {"ADDITIVE", own(add(1, V, 40, ""))},
        {"ORTHOGONAL_DECOMP", own(edit("ablate", 1, V, "'strength': -999"))},
        {"ORTHOGONAL", own(edit("ablate", 1, V, "'strength': -999"))},
        {"PROJECTION_CAP", own(edit("project_clamp", 1, V, "'max': -400"))},
      };
      for (String[] method : methods) {
        double strength =
            method[0].startsWith("ORTHOGONAL")
                ? 500
                : method[0].equals("PROJECTION_CAP") ? -200 : 20;
        for (String how : List.of("'temperature': 0.0", "'temperature': 1.0, 'seed': 11.0")) {
          String own = ", " + how.replace("11.0", "11");
          JsonNode answer =
              server
                  .post(
                      "/v1/steer/completion",
                      steer(
                          QUOTED,
                          np(V, strength, 1),
                          ", 'types': ['STEERED', 'DEFAULT'], 'steer_method': '%s', %s"
                              .formatted(method[0], how)))
                  .ok();
          JsonNode outputs = answer.get("outputs");
          Answer steered = ask(server, own, method[1]);
          assertEquals("STEERED", outputs.get(0).get("type").asText());
          assertEquals(steered.text, outputs.get(0).get("output").asText(), method[0]);
          assertEquals("DEFAULT", outputs.get(1).get("type").asText());
          String unsteered = ask(server, own, "").text;
          assertEquals(unsteered, outputs.get(1).get("output").asText());
          assertNotEquals(unsteered, steered.text);
          assertEquals(steered.id, answer.get("halter").get("plan_id").asText());
          assertEquals(1, answer.get("halter").get("report").get("interventions").size());
        }
      }
      // The same in camel case, normed, alone, by the short path.
      JsonNode answer =
          server
              .post(
                  "/steer",
                  "{'prompt': %s, 'nCompletionTokens': 16, 'normalizeSteering': true, 'strengthMultiplier': %s, 'temperature': 0, 'types': ['STEERED'], 'nLogprobs': 2, 'vectors': [{'steeringVector': %s, 'strength': 40, 'hook': 'blocks.1.hook_resid_post'}]}"
                      .formatted(QUOTED, norm, Arrays.toString(V)))
              .ok();
      assertEquals(
          ask(server, ", 'temperature': 0", own(add(1, V, 40, ""))).text,
          answer.get("outputs").get(0).get("output").asText());
      JsonNode logprobs = answer.get("outputs").get(0).get("logprobs");
      assertEquals(16, logprobs.size());
      assertEquals(
          logprobs.get(0).get("logprob"), logprobs.get(0).get("topLogprobs").get(0).get("logprob"));
    }
  }

  @Test
  void neuronpediasStreamTellsAllThatStands() throws IOException {
    String how = ", 'types': ['STEERED', 'DEFAULT'], 'temperature': 0, 'stream': true";
    try (TestServer server = TestServer.start()) {
      TestServer.Reply reply =
          server.post("/v1/steer/completion", steer(QUOTED, np(V, 20, 1), how));
      assertEquals(200, reply.status(), reply.body());
      List<JsonNode> events =
          reply
              .body()
              .lines()
              .filter(line -> line.startsWith("data: "))
              .map(line -> CommandLineRun.parse(line.substring(6)))
              .toList();
      String[] stood = {"", ""};
      for (JsonNode event : events) {
        for (int i = 0; i < 2; i++) {
          String output = event.get("outputs").get(i).get("output").asText();
          assertTrue(output.startsWith(stood[i]), output);
          stood[i] = output;
        }
      }
      assertTrue(events.size() > 8);
      assertEquals(ask(server, ", 'temperature': 0", own(add(1, V, 40, ""))).text, stood[0]);
      assertEquals(CAT, stood[1]);
      assertTrue(events.getLast().has("halter") && !events.getFirst().has("halter"));
    }
  }

  @Test
  void neuronpediasChatsLeaveSpecialTokensAlone() throws IOException {
    String chat = "[{'role': 'user', 'content': 'What is your favourite animal?'}]";
    String how = ", 'temperature': 0, 'types': ['STEERED', 'DEFAULT'], 'steer_special_tokens': ";
    try (TestServer server = TestServer.start()) {
      int[] tokens = server.model.tokenizer().encode(QUESTION, false);
      List<Integer> special =
          Arrays.stream(tokens)
              .filter(token -> server.model.tokenizer().piece(token).startsWith("<|"))
              .boxed()
              .toList();
      assertTrue(special.size() >= 3, special.toString());
      String other = when(ALL + ", 'exclude_prompt_tokens': " + special);
      for (boolean steersSpecial : new boolean[] {false, true}) {
        JsonNode answer =
            server
                .post(
                    steersSpecial ? "/steer-chat" : "/v1/steer/completion-chat",
                    steer(chat, np(V, 20, 1), how + steersSpecial))
                .ok();
        Answer steered =
            ask(server, ", 'temperature': 0", own(add(1, V, 40, steersSpecial ? "" : other)));
        JsonNode output = answer.get("outputs").get(0);
        assertEquals(
            answer.get("input").get("raw").asText() + steered.text, output.get("raw").asText());
        assertEquals(steered.id, answer.get("halter").get("plan_id").asText());
        JsonNode turns = answer.get("outputs").get(1).get("chatTemplate");
        assertEquals("user", turns.get(0).get("role").asText());
        assertEquals(CAT.strip(), turns.get(1).get("content").asText());
      }
    }
  }

  @Test
  void whatOfNeuronpediaNoPlanCanSayIsRefused() throws IOException {
    try (TestServer server = TestServer.start()) {
      String[][] bad = {
        {steer(QUOTED, "", ""), "vectors"},
        {steer(QUOTED, np(V, 1, 9), ""), "hook"},
        {steer(QUOTED, np(V, 1, 1).replace("hook_resid_post", "attn.hook_z"), ""), "hook"},
        {steer(QUOTED, np(V, 1, 1).replace("hook_resid_post", "hook_what"), ""), "hook"},
        {steer(QUOTED, np(new float[D_MODEL], 1, 1), ", 'steer_method': 'ORTHOGONAL'"), "not zero"},
        {steer(QUOTED, np(V, 1, 1), ", 'steer_method': 'ADD'"), "steer_method"},
        {steer(QUOTED, np(V, 1, 1), ", 'types': []"), "types"},
        {steer(QUOTED, np(V, 1, 1), ", 'types': ['STEERED', 'STEERED']"), "types"},
        {steer(QUOTED, np(V, 1, 1), ", 'features': [{'source': '6-res-jb'}]"), "SAEs"},
        {steer(QUOTED, np(V, 1, 1), ", 'n_logprobs': 11"), "n_logprobs"},
        {steer(QUOTED, np(V, 1, 1), ", 'nLogprobs': 1, 'n_logprobs': 1"), "twice"},
        {steer(QUOTED, np(V, 1, 1), ", 'fail_if_busy': true"), "fail_if_busy"},
        {steer(QUOTED, np(V, 1, 1), ", 'top_k': 1"), "top_k"},
        {steer("[]", np(V, 1, 1), ""), "prompt"},
        {steer("5", np(V, 1, 1), ""), "prompt"},
        {"{}", "vectors"},
        {"[]", "JSON"},
      };
      for (String[] each : bad) {
        String message = plain(server.post("/v1/steer/completion", each[0]), 400);
        assertTrue(message.contains(each[1]), message);
      }
      plain(
          server.post(
              "/v1/steer/completion", steer(QUOTED, np(V, 1, 1), "").replace("'demo'", "'gpt2'")),
          404);
      String two =
          plain(
              server.post("/steer", steer(QUOTED, np(V, 1, 1), ""), "X-Halter-Plan", "dogs"), 400);
      assertTrue(two.contains("\"vectors\" and the header X-Halter-Plan"), two);
      plain(
          server.post("/steer", steer(QUOTED, np(V, 1, 1), "").replace("'demo'", "'demo@dogs'")),
          400);
      plain(server.post("/steer-chat", steer(QUOTED, np(V, 1, 1), "")), 400);
      plain(server.post("/steer-chat", steer("[{'role': 'user'}]", np(V, 1, 1), "")), 400);
    }
    Path keys = Files.writeString(folder.resolve("keys"), "sesame\n");
    try (TestServer server = setup().keys(keys).start()) {
      String body = steer(QUOTED, np(V, 1, 1), "");
      plain(server.post("/steer", body), 401);
      plain(server.post("/steer", body, "X-SECRET-KEY", "guess"), 401);
      server.post("/steer", body, "X-SECRET-KEY", "sesame").ok();
    }
  }

  // All of them

  @Test
  void twoDialectsInOneBodyAreRefusedByTheirNames() throws IOException {
    String easy = steering(easy(data(Map.of(1, V)), "", ALL));
    String rhizo = ", 'decode_steering_vectors': {'post_block': {'1': " + Arrays.toString(V) + "}}";
    String lens = lens(tensor("[1, 192]", bytes(V), "'dtype': 'float32'", false), "[1]", "");
    String own = ", 'plan': 'dogs'";
    String[] ways = {own, easy, rhizo, lens, ", 'model': 'demo@dogs'"};
    String[] names = {
      "\"plan\"", "\"steering\"", "\"decode_steering_vectors\"", "\"vllm_xargs\"", "\"model\""
    };
    try (TestServer server = TestServer.start()) {
      for (int i = 0; i < ways.length; i++) {
        for (int k = 0; k < i; k++) {
          refused(server, ways[i] + ways[k], names[i], names[k], "each bring a plan");
        }
      }
      assertTrue(server.log.isEmpty(), "their fields are known: " + server.log);
      refused(server, ", 'steer_vector_request': {}", "steer_vector_request");
    }
  }

  /** The error of an answer that is one, in the shape of the steering servers. */
  private static String plain(TestServer.Reply reply, int expected) {
    assertEquals(expected, reply.status(), reply.body());
    JsonNode error = reply.json();
    assertEquals(List.of("error"), CommandLineRun.keys(error), reply.body());
    String message = error.get("error").asText();
    assertTrue(message.lines().count() == 1 && !message.contains("Exception"), message);
    return message;
  }
}
