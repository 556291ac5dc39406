package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.TestDevices;
import dev.halter.files.JsonObject;
import dev.halter.model.Capture;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringReport;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Every family against transformers: logits, all sites, patterns, greedy text, and steering, with
 * all cases of a model in one mixed batch.
 */
class GoldenModelsTest {
  private static final Site LOGITS = new Site(Site.Kind.LOGITS, -1);

  /** Every model on the devices that run models. */
  static Stream<Arguments> models() {
    return Golden.names()
        .flatMap(name -> TestDevices.forModels().map(device -> Arguments.of(name, device)));
  }

  @ParameterizedTest
  @MethodSource("models")
  void logitsAndSitesEqualTransformers(String name, Device device) {
    try (Golden golden = new Golden(name);
        Llama model = golden.load(device, DType.F32, 8);
        Engine engine = new Engine(model)) {
      List<JsonObject> cases = golden.cases.objects("forward");
      List<Request> requests = new ArrayList<>();
      for (JsonObject json : cases) {
        Set<Site> sites = sites(json, model.config());
        requests.add(request(json, model.config(), sites));
      }
      engine.run(requests).forEach(Result::orThrow);
      for (int i = 0; i < cases.size(); i++) {
        Capture capture = requests.get(i).capture();
        String id = cases.get(i).text("id");
        boolean all = cases.get(i).text("rows").equals("all");
        assertLogits(golden, id, capture, all, 2e-4, "logits");
        for (Site site : capture.values().keySet()) {
          if (!site.equals(LOGITS)) {
            Golden.assertClose(
                golden.expected(id + "/" + site),
                capture.values().get(site),
                2e-4,
                id + " " + site);
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("models")
  void bf16LogitsAreCloseToTransformers(String name, Device device) {
    try (Golden golden = new Golden(name);
        Llama model = golden.load(device, DType.BF16, 8);
        Engine engine = new Engine(model)) {
      List<JsonObject> cases = golden.cases.objects("forward");
      List<Request> requests = new ArrayList<>();
      for (JsonObject json : cases) {
        requests.add(request(json, model.config(), Set.of(LOGITS)));
      }
      engine.run(requests).forEach(Result::orThrow);
      for (int i = 0; i < cases.size(); i++) {
        String id = cases.get(i).text("id");
        boolean all = cases.get(i).text("rows").equals("all");
        assertLogits(golden, id, requests.get(i).capture(), all, 2e-2, "bf16/logits");
        assertLogits(golden, id, requests.get(i).capture(), all, 2e-2, "logits");
      }
    }
  }

  @ParameterizedTest
  @MethodSource("models")
  void greedyTextEqualsTransformers(String name, Device device) {
    try (Golden golden = new Golden(name);
        Llama model = golden.load(device, DType.F32, 8);
        Engine engine = new Engine(model)) {
      for (JsonObject json : golden.cases.objects("greedy")) {
        int[] continuation = Golden.tokens(json, "continuation");
        Request request =
            Request.of(Golden.tokens(json, "tokens"))
                .withId(json.text("id"))
                .withMaxTokens(continuation.length);
        assertArrayEquals(continuation, engine.run(request).orThrow().tokens(), json.text("id"));
      }
    }
  }

  @ParameterizedTest
  @MethodSource("models")
  void steeringEqualsHooksInTransformersInAMixedBatch(String name, Device device) {
    try (Golden golden = new Golden(name);
        Llama model = golden.load(device, DType.F32, 24);
        Engine engine = new Engine(model)) {
      ModelConfig config = model.config();
      List<JsonObject> cases = new ArrayList<>(golden.cases.objects("unsteered"));
      int unsteered = cases.size();
      cases.addAll(golden.cases.objects("steered"));
      List<Request> requests = new ArrayList<>();
      for (JsonObject json : cases) {
        SteeringPlan plan =
            json.has("plan")
                ? SteeringPlan.of(json.object("plan"), golden.folder, config)
                : SteeringPlan.NONE;
        Request prompt = request(json, config, sites(json, config));
        requests.add(
            Request.of(prompt.prompt())
                .withId(prompt.id())
                .withMaxTokens(Golden.tokens(json, "continuation").length)
                .with(plan)
                .with(prompt.capture()));
      }
      List<Result> results = engine.run(requests);
      for (int i = 0; i < cases.size(); i++) {
        JsonObject json = cases.get(i);
        String id = json.text("id");
        Result result = results.get(i).orThrow();
        Capture capture = requests.get(i).capture();
        assertLogits(golden, id, capture, true, 3e-4, "logits");
        for (Site site : capture.values().keySet()) {
          if (!site.equals(LOGITS) && golden.has(id + "/" + site)) {
            Golden.assertClose(
                golden.expected(id + "/" + site),
                capture.values().get(site),
                3e-4,
                id + " " + site);
          }
        }
        assertArrayEquals(Golden.tokens(json, "continuation"), result.tokens(), id);
        if (i >= unsteered) {
          assertReport(json, result.report());
        }
      }
    }
  }

  /** The plan must do something, or equality with the hooks would show nothing. */
  @ParameterizedTest
  @MethodSource("dev.halter.generation.Golden#names")
  void everyGoldenPlanChangesTheRun(String name) {
    try (Golden golden = new Golden(name)) {
      for (JsonObject json : golden.cases.objects("steered")) {
        String id = json.text("id");
        String plain = json.text("unsteered");
        double logits =
            Golden.difference(golden.expected(plain + "/logits"), golden.expected(id + "/logits"));
        double generated =
            Golden.difference(
                golden.expected(plain + "/generation_logits"),
                golden.expected(id + "/generation_logits"));
        assertTrue(Math.max(logits, generated) > 0.03, id);
      }
    }
  }

  private static void assertReport(JsonObject json, SteeringReport report) {
    List<JsonObject> expected = json.objects("report");
    assertEquals(expected.size(), report.interventions().size(), json.text("id"));
    for (int i = 0; i < expected.size(); i++) {
      SteeringReport.Entry entry = report.interventions().get(i);
      String what = json.text("id") + ", intervention " + i;
      assertEquals(expected.get(i).integer("tokens", 0, 10_000), entry.tokens(), what);
      double mean = expected.get(i).number("mean_norm", 0, 1e9);
      assertEquals(mean, entry.meanChange(), 1e-3 * mean + 1e-6, what);
    }
  }

  private static void assertLogits(
      Golden golden, String id, Capture capture, boolean all, double tolerance, String tensor) {
    float[] logits = capture.values().get(LOGITS);
    float[] expected = golden.expected(id + "/" + tensor);
    if (!all) {
      logits = Arrays.copyOfRange(logits, logits.length - expected.length, logits.length);
    }
    Golden.assertClose(expected, logits, tolerance, id + " " + tensor);
  }

  private static Set<Site> sites(JsonObject json, ModelConfig config) {
    Set<Site> sites = new LinkedHashSet<>();
    json.texts("sites").forEach(site -> sites.add(Site.parse(site, config)));
    sites.add(LOGITS);
    return sites;
  }

  private static Request request(JsonObject json, ModelConfig config, Set<Site> sites) {
    int[] tokens = Golden.tokens(json, "tokens");
    return Request.of(tokens)
        .withId(json.text("id"))
        .withMaxTokens(0)
        .with(new Capture(config, sites, tokens.length));
  }
}
