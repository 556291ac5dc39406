package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Scope;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.generation.Engine;
import dev.halter.generation.Request;
import dev.halter.steering.SteeringPlan;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Which pages sequences hold, and what is known of their beginnings. */
class KvCacheTest {
  private static final Path DEMO = Path.of("src/main/models/demo");
  private static final int PAGE = KvCache.PAGE;
  private static final int PAGES = 12;
  private static final int SEQUENCES = 6;

  private static void with(Consumer<KvCache> test) {
    ModelConfig config = ModelConfig.read(DEMO);
    try (Device device = CpuDevice.open(1);
        Scope scope = device.scope()) {
      test.accept(new KvCache(scope, config, DType.F32, PAGES, SEQUENCES, PAGES * PAGE));
    }
  }

  private static int[] tokens(int count, int seed) {
    return new Random(seed).ints(count, 0, 1000).toArray();
  }

  /** A beginning, and then others. */
  private static int[] branch(int[] tokens, int common, int count, int seed) {
    int[] branch = Arrays.copyOf(tokens, count);
    int[] others = tokens(count - common, seed);
    for (int i = common; i < count; i++) {
      branch[i] = i == common ? tokens[i % tokens.length] + 1 : others[i - common];
    }
    return branch;
  }

  private static int open(KvCache cache, int tokens) {
    int sequence = cache.open();
    assertTrue(cache.reserve(sequence, tokens));
    return sequence;
  }

  private static int[] pages(KvCache cache, int sequence) {
    int[] table = cache.pageTable().toInts(SEQUENCES * cache.pagesPerSequence());
    int from = sequence * cache.pagesPerSequence();
    return Arrays.copyOfRange(table, from, from + cache.pagesPerSequence());
  }

  @Test
  void wholePagesAreSharedAndTheLastIsCopied() {
    with(
        cache -> {
          int[] text = tokens(2 * PAGE + 30, 1);
          int first = open(cache, text.length);
          int[] held = pages(cache, first);
          cache.keep(first, new Beginning(text));
          float[] part = fill(cache, held[2], 7);
          int[] other = branch(text, 2 * PAGE + 20, 2 * PAGE + 40, 2);
          int second = open(cache, other.length);
          assertEquals(2 * PAGE + 20, cache.known(new Beginning(other)));
          assertEquals(2 * PAGE + 20, cache.share(second, new Beginning(other)));
          int[] shared = pages(cache, second);
          assertEquals(held[0], shared[0]);
          assertEquals(held[1], shared[1]);
          assertNotEquals(held[2], shared[2]);
          assertEquals(PAGES - 4, cache.pagesFree());
          assertArrayEquals(part, read(cache, shared[2]));
          cache.release(first);
          cache.release(second);
          assertEquals(PAGES, cache.pagesFree());
        });
  }

  private static float[] fill(KvCache cache, int page, int seed) {
    int floats = pageFloats(cache);
    float[] values = new float[floats];
    Random random = new Random(seed);
    IntStream.range(0, floats).forEach(i -> values[i] = random.nextFloat());
    cache.keys(3).slice(4L * floats * page).set(values);
    return values;
  }

  private static float[] read(KvCache cache, int page) {
    int floats = pageFloats(cache);
    return cache.keys(3).slice(4L * floats * page).toFloats(floats);
  }

  private static int pageFloats(KvCache cache) {
    return (int) (cache.keys(0).bytes() / 4 / cache.pages());
  }

  @Test
  void aFewTokensAreNotWorthACopy() {
    with(
        cache -> {
          int[] text = tokens(KvCache.WORTH_SHARING, 3);
          int sequence = open(cache, text.length);
          cache.keep(sequence, new Beginning(text));
          assertEquals(text.length, cache.known(new Beginning(text)));
          assertEquals(0, cache.known(new Beginning(text).first(text.length - 1)));
          assertEquals(0, cache.known(new Beginning(tokens(40, 4))));
        });
  }

  @Test
  void whatTwoHaveReadApartIsHeldOnce() {
    with(
        cache -> {
          int[] text = tokens(PAGE + 5, 5);
          int first = open(cache, text.length);
          int second = open(cache, text.length);
          cache.keep(first, new Beginning(text));
          assertEquals(PAGES - 4, cache.pagesFree());
          cache.keep(second, new Beginning(text));
          assertEquals(PAGES - 3, cache.pagesFree());
          assertEquals(pages(cache, first)[0], pages(cache, second)[0]);
          assertNotEquals(pages(cache, first)[1], pages(cache, second)[1]);
          cache.release(first);
          cache.release(second);
          assertEquals(PAGES, cache.pagesFree());
          assertEquals(PAGE, cache.known(new Beginning(text)), "five more are not worth a copy");
        });
  }

  @Test
  void whatIsDoneToTokensTellsThemApart() {
    with(
        cache -> {
          int[] text = tokens(3 * PAGE, 8);
          long[] edits = new long[text.length];
          Arrays.fill(edits, PAGE + 5, 2 * PAGE + 7, -4);
          int sequence = open(cache, text.length);
          cache.keep(sequence, new Beginning(text, edits));
          assertEquals(3 * PAGE, cache.known(new Beginning(text, edits)));
          assertEquals(PAGE, cache.known(new Beginning(text)));
          long[] other = edits.clone();
          other[2 * PAGE + 6] = 4;
          assertEquals(2 * PAGE, cache.known(new Beginning(text, other)));
          Beginning part = new Beginning(text, edits).first(2 * PAGE + 40);
          assertEquals(2 * PAGE, cache.known(part), "of a page with edits all or nothing");
          long[] later = edits.clone();
          later[PAGE + 5] = 0;
          assertEquals(PAGE, cache.known(new Beginning(text, later)));
          int[] branch = branch(text, PAGE + 30, 2 * PAGE, 9);
          cache.keep(open(cache, branch.length), new Beginning(branch));
          assertEquals(PAGE + 30, cache.known(new Beginning(text)));
          long[] one = new long[text.length];
          one[PAGE + 20] = 1;
          assertEquals(PAGE + 20, cache.known(new Beginning(text, one)), "up to the edit");
        });
  }

  @Test
  void whatGrowsIsKnownAsFarAsItHasGrown() {
    with(
        cache -> {
          int[] text = tokens(3 * PAGE, 6);
          int sequence = open(cache, text.length);
          for (int read : new int[] {20, 40, PAGE, PAGE + 20, 3 * PAGE}) {
            cache.keep(sequence, new Beginning(text).first(read));
            assertEquals(read, cache.known(new Beginning(text)));
          }
          cache.keep(sequence, new Beginning(text).first(30));
          assertEquals(3 * PAGE, cache.known(new Beginning(text)));
          cache.release(sequence);
          assertEquals(3 * PAGE, cache.known(new Beginning(text)));
          assertEquals(PAGES, cache.pagesFree());
        });
  }

  @Test
  void whatWasUnusedForLongestGoesFirstAndWhatIsHeldStays() {
    with(
        cache -> {
          int[][] texts = new int[4][];
          for (int i = 0; i < texts.length; i++) {
            texts[i] = tokens(3 * PAGE, 10 + i);
            int sequence = open(cache, texts[i].length);
            cache.keep(sequence, new Beginning(texts[i]));
            cache.release(sequence);
          }
          assertEquals(PAGES, cache.pagesFree());
          int holder = open(cache, 3 * PAGE); // takes three pages of the first text
          assertEquals(0, cache.known(new Beginning(texts[0])));
          assertEquals(3 * PAGE, cache.share(holder, new Beginning(texts[1])));
          assertEquals(PAGES - 3, cache.pagesFree());

          int large = open(cache, 8 * PAGE); // of the second text none may go
          assertEquals(3 * PAGE, cache.known(new Beginning(texts[1])));
          assertEquals(0, cache.known(new Beginning(texts[2])));
          assertEquals(
              PAGE,
              cache.known(new Beginning(texts[3])),
              "the end of a text goes before its beginning");
          assertFalse(cache.reserve(large, 10 * PAGE));
          assertTrue(cache.reserve(large, 9 * PAGE));
          assertEquals(0, cache.known(new Beginning(texts[3])));
          assertEquals(0, cache.pagesFree());
          cache.release(large);
          cache.release(holder);
          assertEquals(PAGES, cache.pagesFree());
        });
  }

  /** Random beginnings that come, are shared, grow and go: no page is lost, doubled or changed. */
  @Test
  void noPageIsLostOrDoubled() {
    with(
        cache -> {
          Random random = new Random(0);
          int[] base = tokens(5 * PAGE, 20);
          int[][] open = new int[SEQUENCES][];
          for (int i = 0; i < 3000; i++) {
            int common = 1 + random.nextInt(3 * PAGE);
            int count = common + 1 + random.nextInt(PAGE);
            int[] text = branch(base, common, count, random.nextInt(3));
            if (cache.sequencesFree() > 0 && KvCache.pagesFor(count) <= cache.pagesFree()) {
              int sequence = open(cache, count);
              int known = cache.known(new Beginning(text));
              assertEquals(known, cache.share(sequence, new Beginning(text)));
              cache.keep(sequence, new Beginning(text));
              assertEquals(count, cache.known(new Beginning(text)) + tooFew(text));
              open[sequence] = text;
            } else {
              int sequence =
                  IntStream.range(0, SEQUENCES)
                      .filter(s -> open[s] != null)
                      .findAny()
                      .orElseThrow();
              cache.release(sequence);
              open[sequence] = null;
            }
            for (int s = 0; s < SEQUENCES; s++) {
              if (open[s] != null) {
                int whole = open[s].length / PAGE * PAGE;
                assertTrue(cache.known(new Beginning(open[s])) >= whole, "what is held is known");
              }
            }
          }
          for (int s = 0; s < SEQUENCES; s++) {
            if (open[s] != null) {
              cache.release(s);
            }
          }
          assertEquals(PAGES, cache.pagesFree());
          int all = open(cache, PAGES * PAGE);
          assertEquals(PAGES, IntStream.of(pages(cache, all)).distinct().count());
          assertEquals(0, cache.known(new Beginning(base)));
        });
  }

  /** Tokens of the last page that are not worth a copy. */
  private static int tooFew(int[] text) {
    int part = text.length % PAGE;
    return part < KvCache.WORTH_SHARING ? part : 0;
  }

  /** What a page held before is never read: with all empty pages spoilt, answers are the same. */
  @Test
  void emptyPagesAreNeverRead() {
    List<int[]> before = answers(cache -> {});
    Set<Integer> spoilt = new HashSet<>();
    List<int[]> after = answers(cache -> spoilt.addAll(spoil(cache)));
    assertTrue(spoilt.size() >= 6, spoilt::toString);
    assertEquals(before.size(), after.size());
    for (int i = 0; i < before.size(); i++) {
      assertArrayEquals(before.get(i), after.get(i));
    }
  }

  private static List<int[]> answers(Consumer<KvCache> atToken) {
    List<Request> requests = new ArrayList<>();
    List<SteeringPlan> plans =
        List.of(
            SteeringPlan.NONE,
            SteeringPlan.of(Edit.scaleHeads("blocks.1.attn.hook_z", 0, 1)),
            SteeringPlan.of(Edit.scaleHeads("blocks.3.attn.hook_z", 0, 1)),
            SteeringPlan.of(Edit.clamp("blocks.3.mlp.hook_post", 3, 9)));
    try (Device device = CpuDevice.open(2);
        Llama model =
            Llama.load(DEMO, device, DType.F32, new Llama.Limits(64, 4, 4, 16, 2 * PAGE));
        Engine engine = new Engine(model)) {
      for (int i = 0; i < 24; i++) {
        int[] prompt = branch(tokens(100, i % 3), 90 - i, 100 - i, i);
        requests.add(
            Request.of(prompt)
                .withMaxTokens(5)
                .with(plans.get(i % 4))
                .with(token -> atToken.accept(model.cache())));
      }
      return engine.run(requests).stream().map(result -> result.orThrow().tokens()).toList();
    }
  }

  /** Fills what holds nothing with NaN. */
  private static List<Integer> spoil(KvCache cache) {
    List<Integer> empty = cache.empty().boxed().toList();
    float[] nan = new float[pageFloats(cache)];
    Arrays.fill(nan, Float.NaN);
    for (int page : empty) {
      for (int layer = 0; layer < 4; layer++) {
        cache.keys(layer).slice(4L * nan.length * page).set(nan);
        cache.values(layer).slice(4L * nan.length * page).set(nan);
      }
    }
    return empty;
  }
}
