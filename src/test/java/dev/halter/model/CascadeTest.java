package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Scope;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cuda.TestCuda;
import dev.halter.model.AttentionRun.Part;
import dev.halter.model.AttentionRun.Step;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Decoding with keys that rows share made once for all of them: to the last bit what each row makes
 * by itself. Devices as for {@link AttentionSm80Test}.
 */
class CascadeTest {
  private static final String DEVICES = "dev.halter.model.AttentionSm80Test#devices";

  /** A sequence: the first {@code common} tokens of another before it, or of none, and its own. */
  private record Branch(int of, int common, int length) {
    Branch(int length) {
      this(-1, 0, length);
    }
  }

  /** Two that are alone, eight that share 256 tokens, of which three share 512. */
  private static final Branch[] TREE = {
    new Branch(700),
    new Branch(0, 256, 300),
    new Branch(90),
    new Branch(0, 512, 513),
    new Branch(0, 256, 257),
    new Branch(0, 320, 450), // the split that 320 lies in is its own
    new Branch(3, 512, 641),
    new Branch(1, 256, 700),
    new Branch(0, 64, 200), // shares no whole split
    new Branch(0, 256, 512),
    new Branch(400),
  };

  private static AttentionRun open(
      Device device, ModelConfig config, boolean cascades, int rows, int sequences) {
    Attention.Form form = Attention.Form.sm80(config);
    Attention.Form chosen = cascades ? form.sharingAll() : form.sharingNothing();
    return new AttentionRun(device, DType.BF16, config, chosen, rows, sequences);
  }

  /** Fills all sequences but for their last tokens, which the parts are. */
  private static Part[] grow(AttentionRun run, Branch... branches) {
    List<float[][]> all = new ArrayList<>();
    Part[] last = new Part[branches.length];
    for (int i = 0; i < branches.length; i++) {
      Branch branch = branches[i];
      int n = branch.length;
      float[][] qkv = AttentionRun.random(run.config, DType.BF16, n, i);
      if (branch.of >= 0) {
        System.arraycopy(all.get(branch.of), 0, qkv, 0, branch.common);
      }
      int sequence = branch.of < 0 ? run.open(n) : run.fork(branch.of, branch.common, n);
      float[][] own = Arrays.copyOfRange(qkv, branch.common, n - 1);
      if (own.length > 0) {
        run.append(new Part(sequence, branch.common, own));
      }
      all.add(qkv);
      last[i] = new Part(sequence, n - 1, new float[][] {qkv[n - 1]});
    }
    return last;
  }

  private static Part[] withSlots(Part[] parts, int... slots) {
    return IntStream.range(0, parts.length)
        .mapToObj(
            i -> {
              int[] slot = {slots[i % slots.length]};
              return new Part(parts[i].sequence(), parts[i].position(), parts[i].qkv(), slot);
            })
        .toArray(Part[]::new);
  }

  private static int longest(Branch... branches) {
    return Arrays.stream(branches).mapToInt(Branch::length).max().getAsInt();
  }

  /** Asserts the bits; returns how many splits were not read again. */
  private static int assertSharedAndOwnAgree(Device device, int[] shape, Branch... branches) {
    ModelConfig config = AttentionRun.config(shape[0], shape[1], shape[2], shape[3]);
    int longest = longest(branches);
    try (AttentionRun shared = open(device, config, true, longest, branches.length);
        AttentionRun alone = open(device, config, false, longest, branches.length)) {
      float[][] expected = alone.step(null, grow(alone, branches)).z();
      assertTrue(alone.work().shared().isEmpty());
      Part[] parts = grow(shared, branches);
      for (int i = 0; i < 2; i++) { // what a launch leaves does not disturb the next
        float[][] z = shared.step(null, parts).z();
        for (int row = 0; row < z.length; row++) {
          assertArrayEquals(expected[row], z[row], Arrays.toString(shape) + ", row " + row);
        }
      }
      return saved(shared.work());
    }
  }

  private static int saved(Attention.Work work) {
    return work.shared().stream()
        .mapToInt(part -> (part.tiles() - 1) * (part.to() - part.from()))
        .sum();
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void aRowHasTheSameBitsInATreeOfBeginnings(Device device) {
    int[][] shapes = {{4, 1, 128, 0}, {6, 2, 64, 0}, {1, 1, 64, 0}};
    for (int[] shape : shapes) {
      // 7 rows share 2 splits with another, and 2 of these share 2 more with a third.
      assertEquals(7 * 2 + 2 * 2, assertSharedAndOwnAgree(device, shape, TREE));
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void moreRowsThanABlockTakesAreSeveralParts(Device device) {
    // Groups of 16 heads: four rows a block.
    Branch[] branches = new Branch[10];
    Arrays.setAll(branches, i -> i == 0 ? new Branch(300) : new Branch(0, 128, 140 + 20 * i));
    int[] shape = {16, 1, 64, 0};
    assertEquals(3 + 3 + 1, assertSharedAndOwnAgree(device, shape, branches));
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void slidingWindowsLeaveOutWhatTheyDo(Device device) {
    for (int window : new int[] {1, 64, 65, 129, 200, 300, 500}) {
      assertTrue(assertSharedAndOwnAgree(device, new int[] {4, 2, 64, window}, TREE) > 0);
    }
  }

  @Test
  void agreesInLongContexts() {
    Device device =
        TestCuda.REAL ? TestCuda.open() : AttentionSm80Test.devices().findFirst().orElseThrow();
    Branch[] branches = {
      new Branch(8200),
      new Branch(0, 8192, 8193),
      new Branch(0, 8128, 8192),
      new Branch(0, 4096, 4100)
    };
    // 4096 tokens in common to four, then 8064 to three, then 8192 to two.
    assertEquals(
        3 * 32 + 2 * 31 + 1, assertSharedAndOwnAgree(device, new int[] {1, 1, 64, 0}, branches));
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void headEditsAndTheirReportsStayExact(Device device) {
    ModelConfig config = AttentionRun.config(6, 2, 64, 0);
    Site site = new Site(Site.Kind.Z, 0);
    List<List<Edit>> edits =
        List.of(
            List.of(new Edit.Heads(site, new int[] {0, 2}, 0.5f)),
            List.of(AttentionRun.maps(config, 5, 4, 1), new Edit.Heads(site, new int[] {1}, 2)));
    int n = TREE.length;
    try (AttentionRun shared = open(device, config, true, 700, n);
        AttentionRun alone = open(device, config, false, 700, n);
        SteeringTable steering = new SteeringTable(device, edits, 6)) {
      Part[] plain = grow(alone, TREE);
      Step unedited = alone.step(null, plain);
      Step expected = alone.step(steering, withSlots(plain, 0, 1, 2));
      Step step = shared.step(steering, withSlots(grow(shared, TREE), 0, 1, 2));
      assertTrue(saved(shared.work()) > 0);
      for (int row = 0; row < n; row++) {
        assertArrayEquals(expected.z()[row], step.z()[row], "row " + row);
        assertEquals(row % 3 == 0, Arrays.equals(unedited.z()[row], step.z()[row]));
      }
      assertArrayEquals(expected.changes(), step.changes());
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void decodesBesideAPrompt(Device device) {
    ModelConfig config = AttentionRun.config(4, 1, 64, 0);
    try (AttentionRun shared = open(device, config, true, 700, TREE.length + 1);
        AttentionRun alone = open(device, config, false, 700, TREE.length + 1)) {
      float[][][] z = new float[2][][];
      for (int i = 0; i < 2; i++) {
        AttentionRun run = i == 0 ? shared : alone;
        List<Part> parts = new ArrayList<>(List.of(grow(run, TREE)));
        float[][] prompt =
            AttentionRun.random(config, DType.BF16, 33, 99); // its last tile is a row
        parts.add(3, new Part(run.open(33), 0, prompt));
        z[i] = run.step(null, parts.toArray(Part[]::new)).z();
      }
      assertTrue(saved(shared.work()) > 0);
      assertArrayEquals(z[1], z[0]);
    }
  }

  static Stream<Device> cuda() {
    return Stream.of(TestCuda.open());
  }

  /**
   * One recording serves steps whose rows share more, less and with others than when it was made.
   */
  @ParameterizedTest
  @MethodSource("cuda")
  void recordedStepsStayRightAsGroupsChange(Device device) {
    ModelConfig config = AttentionRun.config(4, 2, 64, 0);
    Branch[] branches = {
      new Branch(600), new Branch(0, 512, 600), new Branch(0, 384, 590), new Branch(0, 512, 520),
      new Branch(600), new Branch(4, 384, 600), new Branch(4, 512, 530), new Branch(4, 384, 400),
    };
    int[][] steps = {
      {0, 1, 2, 3},
      {0, 1, 2, 3},
      {4, 5, 6, 7},
      {0, 1, 4, 5},
      {6, 7, 2, 3},
      {0, 4, 6, 7},
      {3, 2, 1, 0},
      {0, 4, 0, 4},
      {1, 5, 1, 6},
      {7, 6, 5, 4}
    };
    try (AttentionRun recorded = open(device, config, true, 600, branches.length);
        AttentionRun alone = open(device, config, false, 600, branches.length)) {
      Part[] parts = grow(recorded, branches);
      Part[] others = grow(alone, branches);
      for (int[] step : steps) {
        float[][] expected = alone.step(null, rows(others, step)).z();
        float[][] z = recorded.decode(rows(parts, step));
        assertTrue(saved(recorded.work()) > 0);
        assertArrayEquals(expected, z, Arrays.toString(step));
      }
    }
  }

  private static Part[] rows(Part[] parts, int[] step) {
    return Arrays.stream(step).mapToObj(i -> parts[i]).toArray(Part[]::new);
  }

  @Test
  void schedulesAgreeBitByBit() {
    for (int[] shape : new int[][] {{6, 2, 64, 290}, {4, 1, 128, 0}}) {
      ModelConfig config = AttentionRun.config(shape[0], shape[1], shape[2], shape[3]);
      TestDevices.assertSchedulesAgree(
          device -> {
            try (AttentionRun run = open(device, config, true, 700, TREE.length)) {
              return run.step(null, grow(run, TREE)).all();
            }
          });
    }
  }

  /**
   * Parts of so many rows of Llama-3.1-8B that have as many tokens in common, and one more each.
   */
  private static List<Cascade.Part> parts(int rows, int tokens) {
    ModelConfig config = AttentionRun.config(32, 8, 128, 0);
    Cascade cascade = Cascade.sm80(config, 64);
    Device device = CpuDevice.open(1);
    int pages = 2 * KvCache.pagesFor(tokens + 1) + rows; // a sequence has its own before it shares
    try (Scope scope = device.scope()) {
      ModelConfig small = AttentionRun.config(1, 1, 2, 0);
      KvCache cache = new KvCache(scope, small, DType.BF16, pages, rows, tokens + 1);
      Beginning beginning = new Beginning(new int[tokens]);
      List<int[]> tiles = new ArrayList<>();
      for (int i = 0; i < rows; i++) {
        int sequence = cache.open();
        assertTrue(cache.reserve(sequence, tokens + 1));
        if (i == 0) {
          cache.keep(sequence, beginning);
        } else {
          assertEquals(tokens, cache.share(sequence, beginning));
        }
        tiles.add(new int[] {i, i * 100, sequence, tokens});
      }
      return cascade.parts(tiles, cache, rows);
    }
  }

  @Test
  void sharesWhatIsWorthALaunch() {
    assertEquals(List.of(), parts(3, 8192), "too few rows");
    assertEquals(List.of(), parts(32, 128), "31 splits saved");
    assertEquals(
        List.of(new Cascade.Part(0, 16, 0, 2), new Cascade.Part(16, 16, 0, 2)), parts(32, 256));
    assertEquals(List.of(new Cascade.Part(0, 8, 0, 8)), parts(8, 1024));
    assertEquals(8, parts(128, 1024).size());
    assertEquals(parts(128, 1024), parts(128, 1088), "half a split is each row's own");
  }

  @Test
  void aPropertySwitchesItOff() {
    ModelConfig config = AttentionRun.config(4, 1, 64, 0);
    assertFalse(Attention.Form.sm80(config).split().cascade() == null);
    try {
      System.setProperty("halter.cascade", "off");
      assertEquals(null, Attention.Form.sm80(config).split().cascade());
      System.setProperty("halter.cascade", "maybe");
      assertThrows(IllegalArgumentException.class, () -> Attention.Form.sm80(config));
    } finally {
      System.clearProperty("halter.cascade");
    }
  }
}
