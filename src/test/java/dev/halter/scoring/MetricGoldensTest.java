package dev.halter.scoring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Edit;
import dev.halter.steering.SteeringPlan;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Metrics against reference implementations: {@code tools/goldens/metrics.py} made the values. */
class MetricGoldensTest {
  private static final JsonNode GOLDEN;

  static {
    try {
      GOLDEN = new ObjectMapper().readTree(Path.of("src/test/resources/metrics.json").toFile());
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  @Test
  void wordsAndNgramsAreThoseOfSacrebleu() {
    for (JsonNode text : GOLDEN.get("texts")) {
      Ngrams ngrams = Ngrams.of(text.get("text").asText());
      List<String> words = new ArrayList<>();
      text.get("words").forEach(word -> words.add(word.asText()));
      assertEquals(words, ngrams.words());
      for (int n = 1; n <= 3; n++) {
        Map<List<String>, Integer> counts = ngrams.counts(n);
        JsonNode golden = text.get("counts").get(n - 1);
        assertEquals(golden.size(), counts.size());
        counts.forEach(
            (run, count) -> assertEquals(golden.get(String.join(" ", run)).asInt(), count));
        assertEquals(
            text.get("distinct").get(n - 1).asDouble(Double.NaN), ngrams.distinct(n), 1e-12);
        assertEquals(text.get("entropy").get(n - 1).asDouble(), ngrams.entropy(n), 1e-12);
      }
      assertEquals(text.get("weighted_entropy").asDouble(), ngrams.weightedEntropy(), 1e-12);
    }
  }

  /** Resamples are drawn otherwise there: both are within the noise of 20,000 resamples. */
  @Test
  void intervalsAreThoseOfScipysPercentileBootstrap() {
    for (JsonNode sample : GOLDEN.get("samples")) {
      double[] values = doubles(sample.get("values"));
      double[] counts = doubles(sample.get("counts"));
      Interval interval =
          sample.get("perplexity").asBoolean()
              ? Interval.ofRatio(values, counts, Math::exp, 1)
              : Interval.ofMean(values, 1);
      boolean isShare = Arrays.stream(values).allMatch(x -> x == 0 || x == 1);
      double width = sample.get("high").asDouble() - sample.get("low").asDouble();
      double tolerance = isShare ? 1.01 / values.length : 0.06 * width;
      assertEquals(sample.get("value").asDouble(), interval.value(), 1e-12);
      assertEquals(sample.get("low").asDouble(), interval.low(), tolerance);
      assertEquals(sample.get("high").asDouble(), interval.high(), tolerance);
      assertEquals(values.length, interval.n());
    }
  }

  @Test
  void aSharesIntervalIsTheOneThatManyResamplesApproach() {
    JsonNode share = GOLDEN.get("share");
    int n = share.get("n").asInt();
    Interval interval = Interval.ofShare(share.get("value").asDouble(), n);
    assertEquals(share.get("low").asDouble(), interval.low(), 1.01 / n);
    assertEquals(share.get("high").asDouble(), interval.high(), 1.01 / n);
    double[] values = new double[n];
    Arrays.fill(values, 0, (int) Math.round(share.get("value").asDouble() * n), 1);
    assertEquals(interval.low(), Interval.ofMean(values, 0).low(), 1.01 / n);
  }

  @Test
  void anIntervalLeavesOutWhatIsNotThereAndKnowsItsSeed() {
    double[] values = {1, 2, Double.NaN, 4, 7, 1};
    assertEquals(5, Interval.ofMean(values, 3).n());
    assertEquals(3, Interval.ofMean(values, 3).value());
    assertEquals(Interval.ofMean(values, 3), Interval.ofMean(values, 3));
    double[] many = doubles(GOLDEN.get("samples").get(0).get("values"));
    assertNotEquals(Interval.ofMean(many, 3), Interval.ofMean(many, 4));
    assertTrue(Interval.ofMean(values, 3).contains(3));
    assertFalse(Interval.ofMean(values, 3).contains(0));
    assertEquals(Interval.NONE, Interval.ofMean(new double[] {Double.NaN}, 0));
    assertEquals(Interval.NONE, Interval.ofShare(0.5, 0));
  }

  @Test
  void perplexityAndDivergenceAreThoseOfTransformers() {
    JsonNode golden = GOLDEN.get("model");
    try (LanguageModel model =
        LanguageModel.at(Path.of("src/test/resources/goldens/llama-bias/model"))
            .device("cpu")
            .dtype("f32")
            .open()) {
      List<int[]> texts = new ArrayList<>();
      for (JsonNode text : golden.get("texts")) {
        texts.add(ints(text));
      }
      assertEquals(
          golden.get("perplexity").asDouble(),
          Perplexity.of(model.engine(), texts, SteeringPlan.NONE),
          1e-4 * golden.get("perplexity").asDouble());
      SteeringPlan plan = SteeringPlan.of(Edit.scaleHeads("blocks.0.attn.hook_z", 0, 1));
      double steered = Perplexity.of(model.engine(), texts, plan);
      assertTrue(steered != golden.get("perplexity").asDouble(), "the plan changes nothing");
      assertEquals(golden.get("steered_perplexity").asDouble(), steered, 1e-4 * steered);
      int vocabulary = model.config().vocabularySize();
      float[] before = Logits.of(model.engine(), texts.getFirst(), SteeringPlan.NONE);
      float[] after = Logits.of(model.engine(), texts.getFirst(), plan);
      for (int i = 0; i < golden.get("divergence").size(); i++) {
        double expected = golden.get("divergence").get(i).asDouble();
        assertTrue(expected > 1e-6, "the plan changes nothing");
        assertEquals(
            expected,
            Logits.divergence(before, i * vocabulary, after, i * vocabulary, vocabulary),
            1e-3 * expected);
      }
    }
  }

  private static double[] doubles(JsonNode list) {
    double[] values = new double[list.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = list.get(i).asDouble();
    }
    return values;
  }

  private static int[] ints(JsonNode list) {
    int[] values = new int[list.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = list.get(i).asInt();
    }
    return values;
  }
}
