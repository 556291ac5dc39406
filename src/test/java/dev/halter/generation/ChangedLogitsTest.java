package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Profile;
import dev.halter.device.ProfiledDevice;
import dev.halter.device.ScarceDevice;
import dev.halter.device.Scope;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.files.JsonObject;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** What the kernel {@code sample} makes of logits before it chooses, and what it tells of them. */
class ChangedLogitsTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final float NEVER = Float.NEGATIVE_INFINITY;

  /** A sampler over one row at a time, and what its kernel left of the row. */
  private static final class Bench implements AutoCloseable {
    final Scope scope;
    final Buffer logits;
    final Sampler sampler;
    final int vocabulary;

    Bench(Device device, int vocabulary, int rows) {
      this.scope = device.scope();
      this.vocabulary = vocabulary;
      this.logits = scope.allocate(4L * vocabulary * rows);
      this.sampler = new Sampler(scope, vocabulary, rows);
    }

    Generation.Token draw(Sampler.Draws draws, float[] row, int index) {
      logits.set(row);
      sampler.begin();
      sampler.draw(draws, 0, index);
      SamplerRun.over(scope.device(), sampler, logits);
      return sampler.token(0);
    }

    /** Makes it choose these tokens, one after the other. */
    void generate(Sampler.Draws draws, int[] tokens) {
      for (int i = 0; i < tokens.length; i++) {
        float[] row = new float[vocabulary];
        Arrays.fill(row, NEVER);
        row[tokens[i]] = 1;
        assertEquals(tokens[i], draw(draws, row, i).id());
      }
    }

    @Override
    public void close() {
      scope.close();
    }
  }

  /** Bit by bit what transformers makes of logits, and draws from what it leaves alone. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void isWhatTransformersDoes(Device device) {
    Path file = Path.of("src/test/resources/logits-processors.json");
    for (JsonObject golden : JsonObject.read(file).objects("cases")) {
      float[] row = floats(golden, "logits");
      int[] generated = ints(golden, "generated");
      Request request = Request.of(ints(golden, "prompt")).with(sampling(golden));
      try (Bench bench = new Bench(device, row.length, 1)) {
        Set<Integer> drawn = new TreeSet<>();
        Sampler.Draws draws = bench.sampler.open(request, generated.length + 1);
        bench.generate(draws, generated);
        bench.draw(draws, row, generated.length);
        float[] changed = floats(golden, "changed");
        assertArrayEquals(changed, bench.logits.toFloats(row.length), golden.path("settings"));
        draws.close();
        // What was chosen counts, so that a request of its own draws over the changed logits.
        Sampling plain =
            request
                .sampling()
                .withRepetitionPenalty(1)
                .withPresencePenalty(0)
                .withFrequencyPenalty(0)
                .withLogitBias(Map.of());
        Sampler.Draws cuts = bench.sampler.open(Request.of(new int[1]).with(plain), 1);
        for (int i = 0; i < 200; i++) {
          drawn.add(bench.draw(cuts, changed, i).id());
        }
        List<Integer> kept = golden.integers("kept");
        assertTrue(kept.containsAll(drawn), drawn + " are not all of " + kept);
        int likely = (int) kept.stream().filter(id -> isLikely(changed, kept, id, plain)).count();
        assertTrue(drawn.size() >= likely, "only " + drawn + " of " + kept);
      }
    }
  }

  /** Whether 200 draws show it, but for one time in ten thousand. */
  private static boolean isLikely(float[] row, List<Integer> kept, int id, Sampling sampling) {
    double sum = 0;
    for (int other : kept) {
      sum += Math.exp((row[other] - row[id]) / sampling.temperature());
    }
    return 1 / sum > 0.045;
  }

  private static Sampling sampling(JsonObject golden) {
    JsonObject settings = golden.object("settings");
    Map<Integer, Float> bias = new HashMap<>();
    if (settings.has("logit_bias")) {
      JsonObject values = settings.object("logit_bias");
      for (String token : values.keys()) {
        bias.put(Integer.valueOf(token), (float) values.number(token, -1e9, 1e9));
      }
    }
    return new Sampling(
        number(settings, "temperature", 1),
        settings.integer("top_k", 0, 1000, 0),
        number(settings, "top_p", 1),
        number(settings, "min_p", 0),
        number(settings, "repetition_penalty", 1),
        number(settings, "presence_penalty", 0),
        number(settings, "frequency_penalty", 0),
        bias,
        Set.of(),
        3);
  }

  private static float number(JsonObject settings, String key, float otherwise) {
    return (float) settings.number(key, -100, 100, otherwise);
  }

  private static int[] ints(JsonObject json, String key) {
    return json.integers(key).stream().mapToInt(Integer::intValue).toArray();
  }

  private static float[] floats(JsonObject json, String key) {
    List<?> values = (List<?>) json.value(key);
    float[] floats = new float[values.size()];
    for (int i = 0; i < floats.length; i++) {
      floats[i] = ((Number) values.get(i)).floatValue();
    }
    return floats;
  }

  /** All settings at once, over sizes of every kind, beside double arithmetic. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void isWhatDoubleArithmeticMakesOfThem(Device device) {
    for (int vocabulary : new int[] {5, 31, 33, 64, 257, 1023, 9001}) {
      Random random = new Random(vocabulary);
      Map<Integer, Float> bias = new HashMap<>();
      Set<Integer> allowed = new TreeSet<>();
      for (int i = 0; i < vocabulary; i += 1 + random.nextInt(3)) {
        allowed.add(i);
        if (random.nextInt(3) == 0) {
          bias.put(i, (float) random.nextGaussian());
        }
      }
      bias.put(vocabulary - 1, NEVER);
      int[] prompt = random.ints(7, 0, vocabulary).toArray();
      int[] generated =
          random.ints(9, 0, allowed.size()).map(i -> List.copyOf(allowed).get(i)).toArray();
      generated[8] = generated[0];
      Set<Integer> stops = Set.of(generated[1], vocabulary + 5);
      Sampling sampling =
          new Sampling(0, 0, 1, 0, 1.4f, 0.7f, 0.3f, Map.of(), allowed, 0).withLogitBias(bias);
      if (IntStream.of(generated).anyMatch(id -> id == vocabulary - 1)) {
        bias.remove(vocabulary - 1);
        sampling = sampling.withLogitBias(bias);
      }
      Request request =
          Request.of(prompt)
              .with(sampling)
              .withStopTokens(stops)
              .with(LogProbabilities.top(3).withTokens(List.of(0, vocabulary - 1)));
      float[] row = logits(vocabulary, 3);
      try (Bench bench = new Bench(device, vocabulary, 1)) {
        for (int index : new int[] {9, 10}) { // stop tokens are too early, and no more
          Sampler.Draws draws = bench.sampler.open(request.withMinTokens(10), 11);
          bench.generate(draws, generated(generated, stops));
          Generation.Token token = bench.draw(draws, row, index);
          int[] counted = generated(generated, stops);
          double[] expected = changed(row, request, counted, index < 10);
          float[] actual = bench.logits.toFloats(vocabulary);
          for (int id = 0; id < vocabulary; id++) {
            assertEquals(expected[id], actual[id], 1e-5, "token " + id + " of " + vocabulary);
          }
          int best = 0;
          for (int id = 0; id < vocabulary; id++) {
            best = actual[id] > actual[best] ? id : best;
          }
          assertEquals(best, token.id());
          assertTold(row, token, 3, List.of(0, vocabulary - 1));
        }
      }
    }
  }

  /** While they are too early, stop tokens cannot be generated either. */
  private static int[] generated(int[] tokens, Set<Integer> stops) {
    return IntStream.of(tokens).filter(id -> !stops.contains(id)).toArray();
  }

  private static double[] changed(float[] row, Request request, int[] generated, boolean early) {
    Sampling sampling = request.sampling();
    double[] changed = new double[row.length];
    for (int id = 0; id < row.length; id++) {
      int token = id;
      double x = row[id] + sampling.logitBias().getOrDefault(id, 0f);
      long count = IntStream.of(generated).filter(other -> other == token).count();
      if (count > 0 || IntStream.of(request.prompt()).anyMatch(other -> other == token)) {
        x = x < 0 ? x * sampling.repetitionPenalty() : x / sampling.repetitionPenalty();
      }
      x -= sampling.frequencyPenalty() * count + (count > 0 ? sampling.presencePenalty() : 0);
      boolean isAllowed = sampling.allowedTokens().contains(id);
      changed[id] = !isAllowed || early && request.stopTokens().contains(id) ? NEVER : x;
    }
    return changed;
  }

  /** Log-probabilities of rows of every kind, beside a sort in double arithmetic. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void tellsTheLikeliestAndTheNamed(Device device) {
    for (int vocabulary : new int[] {1, 5, 31, 33, 257, 1023, 9000}) {
      for (float[] row : rows(vocabulary)) {
        for (int top : new int[] {1, 5, 20, 1000}) {
          List<Integer> named = List.of(vocabulary - 1, 0, vocabulary / 2, 0);
          LogProbabilities wanted = LogProbabilities.top(top).withPrompt(top).withTokens(named);
          Request request = Request.of(new int[1]).with(wanted);
          try (Bench bench = new Bench(device, vocabulary, 1)) {
            Sampler.Draws draws = bench.sampler.open(request, 1);
            Generation.Token greedy = bench.draw(draws, row, 0);
            Alternatives.Candidate first = greedy.alternatives().likeliest().getFirst();
            assertEquals(new Alternatives.Candidate(greedy.id(), greedy.logProbability()), first);
            assertTold(row, greedy, top, named);
            bench.sampler.begin();
            bench.sampler.score(draws, 0, vocabulary / 3);
            SamplerRun.over(bench.scope.device(), bench.sampler, bench.logits);
            Generation.Token given = bench.sampler.token(0);
            assertEquals(vocabulary / 3, given.id());
            assertEquals(greedy.alternatives(), given.alternatives());
            assertTold(row, given, top, named);
          }
        }
      }
    }
  }

  private static List<float[]> rows(int vocabulary) {
    float[] plain = logits(vocabulary, 2);
    float[] ties = plain.clone();
    float[] equal = new float[vocabulary];
    float[] falling = new float[vocabulary];
    float[] one = new float[vocabulary];
    Arrays.fill(one, NEVER);
    one[vocabulary / 3] = -2;
    for (int i = 0; i < vocabulary; i++) {
      ties[i] = Math.round(plain[i]);
      falling[i] = -i / 100f;
    }
    return List.of(plain, ties, equal, falling, one);
  }

  private static void assertTold(
      float[] row, Generation.Token token, int top, List<Integer> named) {
    double max = NEVER;
    double sum = 0;
    for (float value : row) {
      max = Math.max(max, value);
    }
    for (float value : row) {
      sum += Math.exp(value - max);
    }
    double all = max + Math.log(sum);
    List<Integer> order =
        IntStream.range(0, row.length)
            .boxed()
            .sorted((a, b) -> row[a] == row[b] ? a - b : Float.compare(row[b], row[a]))
            .limit(top)
            .toList();
    List<Alternatives.Candidate> likeliest = token.alternatives().likeliest();
    assertEquals(order, likeliest.stream().map(Alternatives.Candidate::token).toList());
    assertEquals(
        named, token.alternatives().named().stream().map(Alternatives.Candidate::token).toList());
    Map<Integer, Float> bits = new HashMap<>();
    bits.put(token.id(), token.logProbability());
    for (List<Alternatives.Candidate> list : List.of(likeliest, token.alternatives().named())) {
      for (Alternatives.Candidate each : list) {
        assertEquals(row[each.token()] - all, each.logProbability(), 2e-5);
        Float same = bits.putIfAbsent(each.token(), each.logProbability());
        assertTrue(same == null || same == each.logProbability(), "one token, one number");
      }
    }
    assertEquals(row[token.id()] - all, token.logProbability(), 2e-5);
  }

  /** Rows with and without all this in one step: each as alone, bit by bit. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void aRowIsAsAlone(Device device) {
    int vocabulary = 1023;
    Sampling drawn = new Sampling(0.9f, 40, 0.9f, 7);
    Request plain = Request.of(new int[] {1}).with(drawn);
    List<Request> requests =
        List.of(
            plain,
            plain.with(drawn.withFrequencyPenalty(0.5f).withRepetitionPenalty(1.2f)),
            plain.with(LogProbabilities.top(7)),
            plain.with(drawn.withAllowedTokens(Set.of(3, 9, 500))).with(LogProbabilities.of(9)),
            plain);
    float[] rows = logits(requests.size() * vocabulary, 5);
    List<Generation.Token> together = new ArrayList<>();
    try (Bench bench = new Bench(device, vocabulary, requests.size())) {
      bench.logits.set(rows);
      bench.sampler.begin();
      for (int i = 0; i < requests.size(); i++) {
        bench.sampler.draw(bench.sampler.open(requests.get(i), 1), i, i);
      }
      SamplerRun.over(bench.scope.device(), bench.sampler, bench.logits);
      for (int i = 0; i < requests.size(); i++) {
        together.add(bench.sampler.token(i));
      }
      float[] after = bench.logits.toFloats(rows.length);
      assertArrayEquals(Arrays.copyOf(rows, vocabulary), Arrays.copyOf(after, vocabulary));
      assertFalse(Arrays.equals(rows, after), "a penalty changes its row");
    }
    for (int i = 0; i < requests.size(); i++) {
      float[] row = Arrays.copyOfRange(rows, i * vocabulary, (i + 1) * vocabulary);
      try (Bench bench = new Bench(device, vocabulary, 1)) {
        Sampler.Draws draws = bench.sampler.open(requests.get(i), 1);
        assertEquals(bench.draw(draws, row, i), together.get(i));
      }
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    int vocabulary = 257;
    float[] row = logits(vocabulary, 1);
    Sampling sampling =
        new Sampling(0.8f, 30, 0.95f, 1)
            .withMinP(0.01f)
            .withRepetitionPenalty(1.3f)
            .withFrequencyPenalty(0.2f)
            .withLogitBias(Map.of(4, 1f));
    Request request = Request.of(new int[] {1, 2, 3}).with(sampling).with(LogProbabilities.top(20));
    TestDevices.assertSchedulesAgree(
        device -> {
          try (Bench bench = new Bench(device, vocabulary, 1)) {
            Sampler.Draws draws = bench.sampler.open(request, 4);
            float[] told = new float[4 * 22];
            for (int i = 0; i < 4; i++) {
              Generation.Token token = bench.draw(draws, row, i);
              told[22 * i] = token.id();
              told[22 * i + 1] = token.logProbability();
              for (int j = 0; j < 20; j++) {
                told[22 * i + 2 + j] = token.alternatives().likeliest().get(j).token();
              }
            }
            return told;
          }
        });
  }

  /**
   * One upload and one download a step, and two launches for greedy choices of which one is of
   * changed logits; a table is uploaded once and used again.
   */
  @Test
  void aStepIsOneUploadAndOneDownload() {
    ScarceDevice counting = new ScarceDevice(CpuDevice.open(1));
    try (ProfiledDevice device = new ProfiledDevice(counting, table -> {});
        Bench bench = new Bench(device, 100, 4)) {
      Request request =
          Request.of(new int[] {1, 2})
              .with(Sampling.GREEDY.withFrequencyPenalty(1))
              .with(LogProbabilities.top(3));
      Sampler.Draws first = bench.sampler.open(request, 30);
      bench.logits.set(logits(400, 1));
      long[] before = copies(device);
      for (int step = 0; step < 10; step++) {
        bench.sampler.begin();
        for (int row = 0; row < 4; row++) {
          bench.sampler.draw(
              row == 0 ? first : bench.sampler.open(Request.of(new int[1]), 1), row, step);
        }
        SamplerRun.over(bench.scope.device(), bench.sampler, bench.logits);
      }
      long[] after = copies(device);
      assertArrayEquals(new long[] {before[0] + 10, before[1] + 10, before[2] + 20}, after);
      first.close();
      int buffers = counting.buffers();
      bench.sampler.open(request, 30).close();
      assertEquals(buffers, counting.buffers(), "the table is used again");
    }
  }

  private static long[] copies(ProfiledDevice device) {
    long[] counts = new long[3];
    List<String> names = List.of("copy to the device", "copy from the device", "sample");
    for (Profile.Row row : device.profile().rows()) {
      int at = names.indexOf(row.name());
      if (at >= 0) {
        counts[at] = row.launches();
      }
    }
    return counts;
  }

  @Test
  void refusesSettingsWithoutMeaning() {
    Sampling greedy = Sampling.GREEDY;
    for (float wrong : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
      assertThrows(IllegalArgumentException.class, () -> greedy.withMinP(wrong));
      assertThrows(IllegalArgumentException.class, () -> greedy.withRepetitionPenalty(wrong));
      assertThrows(IllegalArgumentException.class, () -> greedy.withPresencePenalty(wrong));
      assertThrows(IllegalArgumentException.class, () -> greedy.withFrequencyPenalty(wrong));
    }
    for (float wrong : new float[] {Float.NaN, Float.POSITIVE_INFINITY}) {
      assertThrows(IllegalArgumentException.class, () -> greedy.withLogitBias(Map.of(1, wrong)));
    }
    assertThrows(IllegalArgumentException.class, () -> greedy.withMinP(1.1f));
    assertThrows(IllegalArgumentException.class, () -> greedy.withRepetitionPenalty(0));
    assertThrows(IllegalArgumentException.class, () -> LogProbabilities.top(1001));
    assertThrows(IllegalArgumentException.class, () -> LogProbabilities.NONE.withPrompt(-2));
    List<Integer> many = IntStream.range(0, 1001).boxed().toList();
    assertThrows(IllegalArgumentException.class, () -> LogProbabilities.NONE.withTokens(many));
  }

  private static float[] logits(int n, long seed) {
    Random random = new Random(seed);
    float[] logits = new float[n];
    for (int i = 0; i < n; i++) {
      logits[i] = (float) (2 * random.nextGaussian());
    }
    return logits;
  }
}
