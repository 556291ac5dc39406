package dev.halter.serving;

import static dev.halter.serving.TestServer.CAT;
import static dev.halter.serving.TestServer.DOG;
import static dev.halter.serving.TestServer.PLANS;
import static dev.halter.serving.TestServer.QUESTION;
import static dev.halter.serving.TestServer.setup;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.Demo;
import dev.halter.device.DType;
import dev.halter.files.BadFileException;
import dev.halter.steering.SteeringPlan;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Plans by field, header and alias, what they do, and the registry. */
class PlansTest {
  private static final String CLAMP =
      "{'name': 'brought', 'interventions': [" + Demo.dogClamp("").replace('"', '\'') + "]}";
  private static final String VALUE = "'value': " + Demo.DOG_VALUE;
  private static final String ADD =
      "{'interventions': [{'op': 'add', 'site': 'blocks.1.hook_resid_post', 'vector': %s, 'scale':"
          + " 40}]}";
  private static final int D_MODEL = Demo.CONFIG.dModel();

  @TempDir Path folder;

  private static float[] vector() {
    Random random = new Random(3);
    float[] vector = new float[D_MODEL];
    for (int i = 0; i < vector.length; i++) {
      vector[i] = (float) random.nextGaussian();
    }
    return vector;
  }

  private static String base64(float... vector) {
    ByteBuffer bytes = ByteBuffer.allocate(4 * vector.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(vector);
    return "{'base64': '" + Base64.getEncoder().encodeToString(bytes.array()) + "'}";
  }

  private void writeVector(Path file) {
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            file, Map.of(), List.of(new TensorSpec("v", DType.F32, D_MODEL)))) {
      out.write("v", vector());
    }
  }

  @Test
  void aPlanComesInFourWays() throws IOException {
    try (TestServer server = TestServer.start()) {
      assertEquals(CAT, server.complete(""));
      assertEquals(DOG, server.complete(", 'plan': 'dogs'"));
      assertEquals(DOG, server.complete(", 'plan': " + CLAMP));
      assertEquals(DOG, server.complete("", "X-Halter-Plan", "dogs"));
      assertEquals(DOG, server.complete(", 'model': 'demo@dogs'"));
      assertEquals(CAT, server.complete(", 'model': 'demo'"), "and none stays behind");
      JsonNode halter =
          server
              .post(
                  "/v1/completions",
                  "{'model': 'demo@dogs', 'max_tokens': 3, 'prompt': '" + QUESTION + "'}")
              .ok()
              .get("halter");
      assertEquals("dogs", halter.get("plan").asText());
      JsonNode entry = halter.get("report").get("interventions").get(0);
      assertEquals("neuron_clamp", entry.get("op").asText());
      assertEquals("blocks.1.mlp.hook_pre_linear", entry.get("site").asText());
      int prompt = server.model.tokenizer().encode(QUESTION, false).length;
      assertEquals(prompt + 2, entry.get("tokens").asInt());
      assertTrue(entry.get("mean_change").asDouble() > 1);

      JsonNode models = server.get("/v1/models").ok().get("data");
      assertEquals("demo", models.get(0).get("id").asText());
      assertEquals("demo@dogs", models.get(1).get("id").asText());
      assertEquals("demo", models.get(1).get("parent").asText());
      assertEquals("demo@no-sums", models.get(2).get("id").asText());
      assertEquals(models.get(1), server.get("/v1/models/demo@dogs").ok());
    }
  }

  @Test
  void theServersPlanActsFirstAndTheRequestsAfterIt() throws IOException {
    String sum = "<|bos|><|user|> What is 3 plus 4?<|end|><|assistant|>";
    String body =
        "{'prompt': ['%s', '%s'], 'temperature': 0, 'max_tokens': 12, 'plan': 'no-sums'}"
            .formatted(QUESTION, sum);
    String alone;
    try (TestServer server = TestServer.start()) {
      alone = server.post("/v1/completions", body).ok().get("choices").get(0).get("text").asText();
    }
    SteeringPlan dogs;
    try (TestServer server = TestServer.start()) {
      dogs = SteeringPlan.read(PLANS.resolve("dogs.json"), server.model.config());
    }
    try (TestServer server = setup().first(dogs).start()) {
      assertEquals(DOG, server.complete(""));
      assertEquals(DOG, server.complete(", 'model': 'demo'"));
      JsonNode answer = server.post("/v1/completions", body).ok();
      String together = answer.get("choices").get(0).get("text").asText();
      assertTrue(!together.equals(alone) && !together.equals(DOG), together);
      assertEquals("dogs, no-sums", answer.get("halter").get("plan").asText());
      for (JsonNode report : answer.get("halter").get("reports")) {
        assertEquals(2, report.get("interventions").size());
        assertEquals("neuron_clamp", report.get("interventions").get(0).get("op").asText());
        assertEquals("head_scale", report.get("interventions").get(1).get("op").asText());
      }
      assertEquals("dogs", server.get("/v1/plans").ok().get("default").asText());
    }
  }

  @Test
  void vectorsComeByNameAndAsTheyAre() throws IOException {
    writeVector(folder.resolve("v.safetensors"));
    Files.writeString(
        folder.resolve("file.json"), ADD.formatted("'v.safetensors'").replace('\'', '"'));
    try (TestServer server = setup().plans(folder).start()) {
      String unsteered = server.complete("");
      String byFile = server.complete(", 'plan': 'file'");
      assertNotEquals(unsteered, byFile);
      for (String vector : List.of("'v.safetensors'", "'v.safetensors#v'", base64(vector()))) {
        assertEquals(byFile, server.complete(", 'plan': " + ADD.formatted(vector)), vector);
      }
      // Nothing else is opened, whatever it is called.
      writeVector(folder.resolveSibling(folder.getFileName() + "-other.safetensors"));
      for (String name :
          List.of(
              folder.resolve("v.safetensors").toString(),
              "../" + folder.getFileName() + "-other.safetensors",
              "./v.safetensors",
              "/etc/passwd",
              "file.json")) {
        JsonNode error = refused(server, ADD.formatted("'" + name + "'"));
        assertEquals("plan", error.get("param").asText());
        String message = error.get("message").asText();
        assertTrue(message.contains("is no name here: there are v.safetensors"), message);
      }
      String affine = "{'interventions': [{'op': 'head_affine', 'file': '/etc/passwd'}]}";
      assertTrue(refused(server, affine).get("message").asText().contains("is no name here"));
      String removal =
          "{'interventions': [{'op': 'remove_concepts', 'dictionary': '../x', 'layers': [0, 1],"
              + " 'remove': ['a']}]}";
      assertTrue(refused(server, removal).get("message").asText().contains("is no name here"));
      String missing = refused(server, ADD.formatted("'v.safetensors#w'")).get("message").asText();
      assertTrue(missing.startsWith("v.safetensors: "), missing);
      assertFalse(missing.contains(folder.toString()), missing);
      for (String bad : List.of(base64(1, 2, 3), "{'base64': '%%%'}", base64(new float[0]))) {
        String message = refused(server, ADD.formatted(bad)).get("message").asText();
        assertTrue(message.contains(D_MODEL + " little-endian f32 values"), message);
      }
      float[] broken = vector();
      broken[7] = Float.NaN;
      assertTrue(
          refused(server, ADD.formatted(base64(broken)))
              .get("message")
              .asText()
              .contains("finite"));
    }
  }

  private static JsonNode refused(TestServer server, String plan) {
    return server.post("/v1/completions", "{'prompt': 'a', 'plan': " + plan + "}").error(400);
  }

  @Test
  void whatIsNoPlanIsNamed() throws IOException {
    try (TestServer server = TestServer.start()) {
      String body = "{'prompt': 'a', ";
      for (String way : List.of("'plan': 'cats'}", "'model': 'demo@cats'}")) {
        String message =
            server.post("/v1/completions", body + way).error(400).get("message").asText();
        assertEquals("there is no plan \"cats\": there are dogs, no-sums", message);
      }
      server.post("/v1/completions", "{'prompt': 'a'}", "X-Halter-Plan", "cats").error(400);
      server.get("/v1/models/demo@cats").error(404);
      for (String model : List.of("gpt-4", "demo2", "demo2@dogs", "")) {
        JsonNode error =
            server.post("/v1/completions", body + "'model': '" + model + "'}").error(404);
        assertEquals("model", error.get("param").asText());
        assertEquals("NotFoundError", error.get("type").asText());
      }
      JsonNode two =
          server
              .post("/v1/completions", body + "'plan': 'dogs'}", "X-Halter-Plan", "dogs")
              .error(400);
      assertTrue(
          two.get("message").asText().contains("X-Halter-Plan and \"plan\""), two.toString());
      server.post("/v1/completions", body + "'plan': 'dogs', 'model': 'demo@dogs'}").error(400);
      server.post("/v1/completions", body + "'plan': ['dogs']}").error(400);
      server.post("/v1/completions", body + "'plan': {}}").error(400);
      String site = CLAMP.replace(Demo.DOG_SITE, "blocks.99.mlp.hook_pre_linear");
      String message = refused(server, site).get("message").asText();
      assertTrue(message.contains("plan.interventions[0].site"), message);
      String unknown = CLAMP.replace("'value'", "'worth'");
      assertTrue(refused(server, unknown).get("message").asText().contains("worth"));
    }
  }

  @Test
  void plansAreLoadedReplacedAndUnloadedByWhoHasTheKey() throws IOException {
    Path adminKeys = Files.writeString(folder.resolve("admin"), "# ours\nsesame\n");
    String other = CLAMP.replace(VALUE, "'value': 0.5");
    try (TestServer closed = TestServer.start()) {
      closed.send("PUT", "/v1/plans/mine", CLAMP.replace('\'', '"')).error(403);
      closed.send("DELETE", "/v1/plans/dogs", null).error(403);
    }
    try (TestServer server = setup().adminKeys(adminKeys).start()) {
      String[] key = {"Authorization", "Bearer sesame"};
      put(server, "mine", CLAMP).error(401);
      put(server, "mine", CLAMP, "Authorization", "Bearer guess").error(401);
      assertEquals(CAT, server.complete(""));
      assertEquals(201, put(server, "mine", CLAMP, key).status());
      assertEquals(DOG, server.complete(", 'plan': 'mine'"));
      assertEquals(DOG, server.complete(", 'model': 'demo@mine'"));
      JsonNode shown = server.get("/v1/plans/mine").ok();
      assertEquals(-20, shown.get("plan").get("interventions").get(0).get("value").asInt());
      assertEquals(200, put(server, "mine", other, key).status());
      assertNotEquals(DOG, server.complete(", 'plan': 'mine'"));
      put(server, "mine", "{'interventions': []}", key).error(400);
      put(server, "a plan", CLAMP, key).error(400);
      put(server, "..%2Fmine", CLAMP, key).error(400);
      List<String> names = new ArrayList<>();
      server
          .get("/v1/plans")
          .ok()
          .get("data")
          .forEach(plan -> names.add(plan.get("name").asText()));
      assertEquals(List.of("dogs", "mine", "no-sums"), names);
      assertTrue(
          server.send("DELETE", "/v1/plans/mine", null, key).ok().get("deleted").asBoolean());
      server.post("/v1/completions", "{'prompt': 'a', 'plan': 'mine'}").error(400);
      server.get("/v1/plans/mine").error(404);
      server.send("DELETE", "/v1/plans/mine", null, key).error(404);
    }
  }

  private static TestServer.Reply put(
      TestServer server, String name, String plan, String... headers) {
    return server.send(
        "PUT", "/v1/plans/" + name.replace(" ", "%20"), plan.replace('\'', '"'), headers);
  }

  @Test
  void aRequestSeesTheOldOrTheNewPlanWhole() throws Exception {
    Path adminKeys = Files.writeString(folder.resolve("admin"), "sesame");
    String off = CLAMP.replace(VALUE, "'scale': 1");
    try (TestServer server = setup().adminKeys(adminKeys).start();
        ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
      put(server, "mine", CLAMP, "Authorization", "Bearer sesame");
      Future<?> writer =
          threads.submit(
              () -> {
                for (int i = 0; i < 40; i++) {
                  put(server, "mine", i % 2 == 0 ? off : CLAMP, "Authorization", "Bearer sesame");
                }
              });
      while (!writer.isDone()) {
        String text = server.complete(", 'plan': 'mine'");
        assertTrue(text.equals(DOG) || text.equals(CAT), text);
      }
      writer.get();
      assertEquals(DOG, server.complete(", 'plan': 'mine'"));
    }
  }

  @Test
  void aBrokenFolderOfPlansIsAnErrorAtTheStart() throws IOException {
    Files.writeString(folder.resolve("bad.json"), "{\"interventions\": []}");
    BadFileException e =
        assertThrows(BadFileException.class, () -> setup().plans(folder).start().close());
    assertTrue(e.getMessage().contains("bad.json"), e.getMessage());
  }
}
