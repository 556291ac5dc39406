package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Profile;
import dev.halter.device.ProfiledDevice;
import dev.halter.device.Scope;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The sampler and its kernel {@code sample}. */
class SamplerTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";

  /** Has token number {@code index} chosen from a row. */
  private record Draw(int row, Sampling sampling, int index) {}

  /** Chosen ids and their log probabilities, in the order of the draws. */
  private record Choice(int[] tokens, float[] logProbabilities) {}

  @ParameterizedTest
  @MethodSource(DEVICES)
  void greedyTakesTheLowestIdOfTheLargestLogit(Device device) {
    for (int vocabulary : new int[] {1, 31, 32, 33, 255, 257, 1023}) {
      float[] logits = logits(vocabulary, vocabulary);
      Arrays.sort(logits);
      int first = vocabulary / 2;
      Arrays.fill(logits, first, vocabulary, 5); // half of them tie
      Choice choice = sample(device, logits, vocabulary, List.of(Sampling.GREEDY));
      assertEquals(first, choice.tokens()[0]);
      assertEquals(Math.log(probabilities(logits, 1)[first]), choice.logProbabilities()[0], 1e-5);
    }
  }

  @Test
  void drawsFollowTheProbabilities() {
    float[] logits = {1, -1, 0.5f, 2, 0, -3, 1.5f};
    int draws = 2000;
    for (float temperature : new float[] {0.5f, 1, 2}) {
      double[] expected = probabilities(logits, temperature);
      int[] counts = new int[logits.length];
      for (int token : draw(logits, new Sampling(temperature, 0, 1, 0), draws)) {
        counts[token]++;
      }
      double chi = 0;
      for (int i = 0; i < counts.length; i++) {
        double mean = draws * expected[i];
        chi += (counts[i] - mean) * (counts[i] - mean) / mean;
      }
      assertTrue(chi < 22.5, "chi square of 6 degrees of freedom " + chi); // 1 in 1,000
    }
  }

  @Test
  void topKLeavesTheKLargestAndWhatTiesWithThem() {
    float[] logits = {0.1f, 0.4f, 0.3f, 0.2f, 0.3f, -0.2f, 0};
    assertDrawn(logits, new Sampling(1, 1, 1, 0), 1);
    assertDrawn(logits, new Sampling(1, 2, 1, 0), 1, 2, 4);
    assertDrawn(logits, new Sampling(1, 3, 1, 0), 1, 2, 4);
    assertDrawn(logits, new Sampling(1, 4, 1, 0), 1, 2, 3, 4);
    assertDrawn(logits, new Sampling(1, 7, 1, 0), 0, 1, 2, 3, 4, 5, 6);
    assertDrawn(logits, new Sampling(1, 100, 1, 0), 0, 1, 2, 3, 4, 5, 6);
  }

  @Test
  void topPLeavesTheSmallestSetThatReachesItAndWhatTiesWithIt() {
    // Probabilities about 0.40, 0.24, 0.15, 0.15, 0.06.
    float[] logits = logs(0.40, 0.24, 0.15, 0.15, 0.06);
    assertDrawn(logits, new Sampling(1, 0, 0.01f, 0), 0);
    assertDrawn(logits, new Sampling(1, 0, 0.39f, 0), 0);
    assertDrawn(logits, new Sampling(1, 0, 0.41f, 0), 0, 1);
    assertDrawn(logits, new Sampling(1, 0, 0.65f, 0), 0, 1, 2, 3);
    assertDrawn(logits, new Sampling(1, 0, 0.93f, 0), 0, 1, 2, 3);
    assertDrawn(logits, new Sampling(1, 0, 0.95f, 0), 0, 1, 2, 3, 4);
    // After temperature: 2 flattens them to 0.30, 0.23, 0.18, 0.18, 0.11.
    assertDrawn(logits, new Sampling(2, 0, 0.39f, 0), 0, 1);
    // After top-k, of what it leaves: 0.40 / 0.64 = 0.625.
    assertDrawn(logits, new Sampling(1, 2, 0.62f, 0), 0);
    assertDrawn(logits, new Sampling(1, 2, 0.63f, 0), 0, 1);
  }

  @Test
  void cutsAgreeWithASortInDoubleArithmetic() {
    Random random = new Random(5);
    for (int round = 0; round < 8; round++) {
      int vocabulary = 20 + random.nextInt(30);
      float[] logits = logits(vocabulary, round);
      int topK = 1 + random.nextInt(vocabulary);
      float topP = 0.3f + 0.6f * random.nextFloat();
      Set<Integer> allowed = allowed(logits, topK, topP);
      for (int token : draw(logits, new Sampling(1, topK, topP, 0), 2000)) {
        assertTrue(allowed.contains(token), "token " + token + " is not among " + allowed);
      }
    }
  }

  /** One logit far above 16.6, the most that noise of 23 bits can add, always wins. */
  @Test
  void noDrawIsWithoutBound() {
    int vocabulary = 50_000;
    float[] logits = new float[vocabulary];
    logits[77] = 60;
    for (int token : draw(logits, new Sampling(1, 0, 1, 0), 2000)) {
      assertEquals(77, token);
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void aDrawDependsOnItsRowSeedAndIndexAlone(Device device) {
    int vocabulary = 257;
    float[] row = logits(vocabulary, 1);
    float[] other = logits(vocabulary, 2);
    Sampling sampling = new Sampling(1, 40, 0.9f, 12);
    float[] three = new float[3 * vocabulary];
    System.arraycopy(other, 0, three, 0, vocabulary);
    System.arraycopy(row, 0, three, vocabulary, vocabulary);
    System.arraycopy(other, 0, three, 2 * vocabulary, vocabulary);
    int[] alone;
    try (Device cpu = CpuDevice.open(1)) {
      alone = IntStream.range(0, 12).map(i -> one(cpu, row, vocabulary, 0, sampling, i)).toArray();
    }
    assertTrue(Arrays.stream(alone).distinct().count() > 3, "draws vary with the index");
    for (int i = 0; i < alone.length; i++) {
      assertEquals(alone[i], one(device, three, vocabulary, 1, sampling, i));
    }
    int[] reseeded =
        IntStream.range(0, 12)
            .map(i -> one(device, row, vocabulary, 0, new Sampling(1, 40, 0.9f, 13), i))
            .toArray();
    assertNotEquals(Arrays.toString(alone), Arrays.toString(reseeded));
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void aRowWithoutAnyNumberGivesNoToken(Device device) {
    int vocabulary = 33;
    for (float nothing : new float[] {Float.NaN, Float.NEGATIVE_INFINITY}) {
      float[] logits = logits(2 * vocabulary, 1);
      Arrays.fill(logits, 0, vocabulary, nothing);
      for (Sampling sampling : List.of(Sampling.GREEDY, new Sampling(1, 5, 0.9f, 1))) {
        Choice choice = sample(device, logits, vocabulary, List.of(sampling, sampling));
        assertEquals(-1, choice.tokens()[0]);
        assertTrue(Float.isNaN(choice.logProbabilities()[0]));
        assertTrue(choice.tokens()[1] >= 0, "its neighbour is served");
      }
    }
  }

  /** Every choice against sorting and draws in double arithmetic, over all that logits may be. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void choosesAsASortInDoubleArithmeticDoes(Device device) {
    List<Sampling> samplings = new ArrayList<>(List.of(Sampling.GREEDY));
    for (float temperature : new float[] {0.7f, 3}) {
      for (int topK : new int[] {0, 1, 2, 50, 1022, 100_000}) {
        for (float topP : new float[] {1, 1e-6f, 0.5f, 0.999f}) {
          samplings.add(new Sampling(temperature, topK, topP, 7));
        }
      }
    }
    int compared = 0;
    for (int vocabulary : new int[] {1, 5, 64, 1023, 9000}) {
      for (float[] logits : hostile(vocabulary)) {
        float[] rows = new float[samplings.size() * vocabulary];
        for (int row = 0; row < samplings.size(); row++) {
          System.arraycopy(logits, 0, rows, row * vocabulary, vocabulary);
        }
        Choice choice = sample(device, rows, vocabulary, samplings);
        for (int row = 0; row < samplings.size(); row++) {
          int expected = choose(logits, samplings.get(row));
          if (expected == UNDECIDED) {
            continue;
          }
          String what = samplings.get(row) + " of " + vocabulary;
          assertEquals(expected, choice.tokens()[row], what);
          compared++;
          double logProbability = logProbability(logits, expected);
          assertEquals(logProbability, choice.logProbabilities()[row], 2e-5, what);
        }
      }
    }
    assertTrue(compared > 1000, "only %d choices were clear".formatted(compared));
  }

  /** Where rounding may decide: a draw or a sum is too close to another. */
  private static final int UNDECIDED = -2;

  private static List<float[]> hostile(int vocabulary) {
    float[] plain = logits(vocabulary, 3);
    float[] ties = plain.clone();
    float[] holes = plain.clone();
    float[] negative = plain.clone();
    float[] signs = new float[vocabulary];
    float[] few = new float[vocabulary];
    Arrays.fill(few, Float.NEGATIVE_INFINITY);
    for (int i = 0; i < vocabulary; i++) {
      ties[i] = Math.round(plain[i]);
      negative[i] = plain[i] - 30;
      signs[i] = i % 2 == 0 ? 0.0f : -0.0f;
      if (i % 3 == 1) {
        holes[i] = i % 2 == 0 ? Float.NaN : Float.NEGATIVE_INFINITY;
      }
    }
    few[vocabulary / 2] = -3;
    few[vocabulary - 1] = -2;
    float[] peaked = plain.clone();
    peaked[vocabulary / 3] = 80;
    return List.of(plain, ties, holes, negative, signs, few, peaked);
  }

  private static int choose(float[] logits, Sampling sampling) {
    List<Integer> order =
        IntStream.range(0, logits.length)
            .filter(i -> !Float.isNaN(logits[i]))
            .boxed()
            .sorted((a, b) -> logits[a] == logits[b] ? a - b : Float.compare(logits[b], logits[a]))
            .toList();
    float top = logits[order.getFirst()];
    float temperature = sampling.temperature();
    if (temperature == 0) {
      return order.getFirst();
    }
    float cut = Float.NEGATIVE_INFINITY;
    if (sampling.topK() > 0 && sampling.topK() < logits.length) {
      cut = order.size() < sampling.topK() ? cut : logits[order.get(sampling.topK() - 1)];
    }
    if (sampling.topP() < 1) {
      double mass = 0;
      for (int i : order) {
        mass += logits[i] >= cut ? Math.exp((logits[i] - top) / temperature) : 0;
      }
      double kept = 0;
      for (int i : order) {
        kept += Math.exp((logits[i] - top) / temperature);
        if (Math.abs(kept - sampling.topP() * mass) < 1e-5 * mass) {
          return UNDECIDED;
        }
        if (kept > sampling.topP() * mass) {
          cut = logits[i];
          break;
        }
      }
    }
    double best = Double.NEGATIVE_INFINITY;
    double second = best;
    int choice = -1;
    for (int i : order) {
      if (logits[i] >= cut) {
        double u = (mix(sampling.key(0), i) + 0.5) / (1 << 23);
        double draw = (logits[i] - top) / temperature - Math.log(-Math.log(u));
        second = Math.max(second, Math.min(best, draw));
        choice = draw > best ? i : choice;
        best = Math.max(best, draw);
      }
    }
    return best - second < 1e-4 ? UNDECIDED : choice;
  }

  /** 23 bits of splitmix64's finaliser. */
  private static long mix(long key, int id) {
    long z = key + 0x9e3779b97f4a7c15L * (id + 1L);
    z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
    z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
    z ^= z >>> 31;
    return z >>> 41;
  }

  /** NaN where a logit is, since the sum of all then has no value. */
  private static double logProbability(float[] logits, int token) {
    double sum = 0;
    for (float logit : logits) {
      sum += Math.exp(logit - logits[token]);
    }
    return -Math.log(sum);
  }

  @Test
  void schedulesAgreeBitByBit() {
    int vocabulary = 257;
    float[] logits = logits(3 * vocabulary, 1);
    List<Sampling> samplings =
        List.of(Sampling.GREEDY, new Sampling(1, 10, 1, 3), new Sampling(0.7f, 0, 0.8f, 4));
    TestDevices.assertSchedulesAgree(
        device -> {
          Choice choice = sample(device, logits, vocabulary, samplings);
          float[] all = Arrays.copyOf(choice.logProbabilities(), 6);
          for (int i = 0; i < 3; i++) {
            all[3 + i] = choice.tokens()[i];
          }
          return all;
        });
  }

  /**
   * However many blocks share a row: alone it has as many as there are, of many rows each has one.
   */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void whoSharesARowShowsInNoBit(Device device) {
    int vocabulary = 4 * 4096 + 77;
    int rows = 9;
    float[] logits = logits(rows * vocabulary, 1);
    List<Sampling> samplings = new ArrayList<>();
    for (int row = 0; row < rows; row++) {
      samplings.add(
          row % 3 == 0
              ? Sampling.GREEDY
              : new Sampling(1.3f, row % 2 == 0 ? 60 : 0, row % 3 == 1 ? 0.9f : 1, row));
    }
    Choice together = sample(device, logits, vocabulary, samplings);
    for (int row = 0; row < rows; row++) {
      float[] alone = Arrays.copyOfRange(logits, row * vocabulary, (row + 1) * vocabulary);
      Choice choice = sample(device, alone, vocabulary, List.of(samplings.get(row)));
      assertEquals(together.tokens()[row], choice.tokens()[0]);
      assertEquals(together.logProbabilities()[row], choice.logProbabilities()[0]);
    }
  }

  /** Where more tokens share a bin with a cut than the last block has room for. */
  @ParameterizedTest
  @MethodSource(DEVICES)
  void cutsAmongEqualsAreThoseOfASort(Device device) {
    int vocabulary = 9000;
    float[] logits = new float[vocabulary];
    for (int i = 0; i < vocabulary; i++) {
      logits[i] = i % 20 == 0 ? 2 : i % 3 == 0 ? 1 + i % 7 * 1e-6f : 1;
    }
    List<Sampling> samplings = new ArrayList<>();
    for (int topK : new int[] {0, 100, 450, 451, 3000}) {
      for (float topP : new float[] {1, 0.1f, 0.7f}) {
        samplings.add(new Sampling(1.5f, topK, topP, 3));
      }
    }
    float[] rows = new float[samplings.size() * vocabulary];
    for (int row = 0; row < samplings.size(); row++) {
      System.arraycopy(logits, 0, rows, row * vocabulary, vocabulary);
    }
    Choice choice = sample(device, rows, vocabulary, samplings);
    int compared = 0;
    for (int row = 0; row < samplings.size(); row++) {
      int expected = choose(logits, samplings.get(row));
      if (expected != UNDECIDED) {
        assertEquals(expected, choice.tokens()[row], samplings.get(row).toString());
        compared++;
      }
    }
    assertTrue(compared > 8, "only %d choices were clear".formatted(compared));
  }

  @Test
  void refusesSettingsWithoutMeaning() {
    for (float temperature : new float[] {-1, Float.NaN, Float.POSITIVE_INFINITY}) {
      assertThrows(IllegalArgumentException.class, () -> new Sampling(temperature, 0, 1, 0));
    }
    assertThrows(IllegalArgumentException.class, () -> new Sampling(1, -1, 1, 0));
    for (float topP : new float[] {0, -0.5f, 1.01f, Float.NaN}) {
      assertThrows(IllegalArgumentException.class, () -> new Sampling(1, 0, topP, 0));
    }
  }

  /** Asserts that many draws show each of these tokens and no other. */
  private static void assertDrawn(float[] logits, Sampling sampling, int... expected) {
    int[] drawn = Arrays.stream(draw(logits, sampling, 300)).distinct().sorted().toArray();
    assertArrayEquals(expected, drawn, sampling.toString());
  }

  /** Draws of one row of logits under so many keys; other devices draw the same. */
  private static int[] draw(float[] logits, Sampling sampling, int draws) {
    int rows = Math.min(draws, 100);
    float[] repeated = new float[rows * logits.length];
    for (int row = 0; row < rows; row++) {
      System.arraycopy(logits, 0, repeated, row * logits.length, logits.length);
    }
    int[] tokens = new int[draws];
    try (Device device = CpuDevice.open(2);
        Scope scope = device.scope();
        Buffer buffer = device.allocate(4L * repeated.length)) {
      Sampler sampler = new Sampler(scope, logits.length, rows);
      buffer.set(repeated);
      for (int first = 0; first < draws; first += rows) {
        List<Draw> batch = new ArrayList<>();
        for (int row = 0; row < rows; row++) {
          batch.add(new Draw(row, sampling, first + row));
        }
        System.arraycopy(choose(device, sampler, buffer, batch).tokens(), 0, tokens, first, rows);
      }
    }
    return tokens;
  }

  /** A pass over the logits of each row, one more to draw, one more to find its cuts. */
  @Test
  void aProfileTellsThePassesOverTheLogits() {
    int vocabulary = 100;
    List<Sampling> samplings =
        List.of(
            Sampling.GREEDY,
            new Sampling(1, 0, 1, 1),
            new Sampling(1, 5, 1, 1),
            new Sampling(1, 0, 0.5f, 1),
            new Sampling(1, 5, 0.5f, 1),
            new Sampling(1, vocabulary, 1, 1)); // cuts nothing
    int[] passes = {1, 2, 3, 3, 3, 2};
    try (ProfiledDevice device = new ProfiledDevice(CpuDevice.open(1), table -> {})) {
      float[] logits = new float[samplings.size() * vocabulary];
      sample(device, logits, vocabulary, samplings);
      long bytes =
          device.profile().rows().stream()
              .filter(row -> row.name().startsWith("sample"))
              .mapToLong(Profile.Row::bytes)
              .sum();
      assertEquals(4L * vocabulary * IntStream.of(passes).sum(), bytes);
    }
  }

  /** One draw for each row. */
  private static Choice sample(
      Device device, float[] logits, int vocabulary, List<Sampling> samplings) {
    List<Draw> draws = new ArrayList<>();
    for (int row = 0; row < samplings.size(); row++) {
      draws.add(new Draw(row, samplings.get(row), 0));
    }
    return sample(device, logits, vocabulary, samplings.size(), draws);
  }

  private static int one(
      Device device, float[] logits, int vocabulary, int row, Sampling sampling, int index) {
    int rows = logits.length / vocabulary;
    List<Draw> draw = List.of(new Draw(row, sampling, index));
    return sample(device, logits, vocabulary, rows, draw).tokens()[0];
  }

  private static Choice sample(
      Device device, float[] logits, int vocabulary, int rows, List<Draw> draws) {
    try (Scope scope = device.scope();
        Buffer buffer = device.allocate(4L * logits.length)) {
      Sampler sampler = new Sampler(scope, vocabulary, rows);
      buffer.set(logits);
      return choose(device, sampler, buffer, draws);
    }
  }

  private static Choice choose(Device device, Sampler sampler, Buffer logits, List<Draw> draws) {
    sampler.begin();
    for (Draw draw : draws) {
      Request request = Request.of(new int[1]).with(draw.sampling);
      sampler.draw(sampler.open(request, 1), draw.row, draw.index);
    }
    SamplerRun.over(device, sampler, logits);
    int[] tokens = new int[draws.size()];
    float[] logProbabilities = new float[draws.size()];
    for (int i = 0; i < tokens.length; i++) {
      tokens[i] = sampler.id(i);
      logProbabilities[i] = sampler.logProbability(i);
    }
    return new Choice(tokens, logProbabilities);
  }

  /** What top-k and then top-p leave, by sorting; no two logits are equal here. */
  private static Set<Integer> allowed(float[] logits, int topK, float topP) {
    double[] p = probabilities(logits, 1);
    List<Integer> order =
        IntStream.range(0, p.length)
            .boxed()
            .sorted((a, b) -> Double.compare(p[b], p[a]))
            .limit(topK)
            .toList();
    double mass = order.stream().mapToDouble(i -> p[i]).sum();
    Set<Integer> allowed = new TreeSet<>();
    double reached = 0;
    for (int i : order) {
      if (reached < topP * mass) {
        allowed.add(i);
      }
      reached += p[i];
    }
    return allowed;
  }

  private static double[] probabilities(float[] logits, double temperature) {
    double[] p = new double[logits.length];
    double sum = 0;
    for (int i = 0; i < p.length; i++) {
      p[i] = Math.exp(logits[i] / temperature);
      sum += p[i];
    }
    for (int i = 0; i < p.length; i++) {
      p[i] /= sum;
    }
    return p;
  }

  private static float[] logits(int n, long seed) {
    Random random = new Random(seed);
    float[] logits = new float[n];
    for (int i = 0; i < n; i++) {
      logits[i] = (float) (2 * random.nextGaussian());
    }
    return logits;
  }

  private static float[] logs(double... probabilities) {
    float[] logits = new float[probabilities.length];
    for (int i = 0; i < logits.length; i++) {
      logits[i] = (float) Math.log(probabilities[i]);
    }
    return logits;
  }
}
