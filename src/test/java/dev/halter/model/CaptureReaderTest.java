package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.FailingDevice;
import dev.halter.device.LateDevice;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Captures filled through {@link SiteReader}: the rows asked for, however they are read. */
class CaptureReaderTest {
  private static final Path MODEL = Path.of("src/test/resources/goldens/qwen3/model");
  private static final String DEVICES = "dev.halter.device.TestDevices#forModels";
  private static final int[] TOKENS = {5, 9, 2, 30, 7, 11};
  private static final long ROOMY = 1 << 20;

  private static Llama load(Device device, DType type) {
    return Llama.load(MODEL, device, type, new Llama.Limits(16, 16, 4, 4, 64));
  }

  /** Runs the sequence of each capture, in one batch if a step takes {@code tokens} of each. */
  private static void run(Llama model, long room, int tokens, Capture... captures) {
    int[] sequences = IntStream.range(0, captures.length).map(i -> model.cache().open()).toArray();
    for (int sequence : sequences) {
      assertTrue(model.cache().reserve(sequence, TOKENS.length));
    }
    try (Scope scope = model.device().scope()) {
      CaptureReader reader = new CaptureReader(scope, model, room, room / 4);
      for (int first = 0; first < TOKENS.length; first += tokens) {
        int end = Math.min(TOKENS.length, first + tokens);
        Batch batch = new Batch();
        reader.begin();
        for (int i = 0; i < captures.length; i++) {
          int[] step = Arrays.copyOfRange(TOKENS, first, end);
          reader.read(batch.add(sequences[i], first, step, new int[step.length], 0), captures[i]);
        }
        model.forward(batch, null, reader.hook());
        reader.finish();
      }
    }
    Arrays.stream(sequences).forEach(model.cache()::release);
  }

  private static Map<Site, float[]> all(Llama model) {
    Capture capture = new Capture(model.config(), Site.all(model.config()), TOKENS.length);
    run(model, ROOMY, TOKENS.length, capture);
    return capture.values();
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void theTokensFromOneOnAreTheEndOfAllTokens(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      try (Llama model = load(device, type)) {
        ModelConfig config = model.config();
        List<Site> sites = Site.all(config);
        Map<Site, float[]> whole = all(model);
        for (int first : new int[] {0, 2, TOKENS.length - 1}) {
          for (int step : new int[] {TOKENS.length, 4, 1}) {
            Capture capture = new Capture(config, sites, TOKENS.length, first);
            run(model, ROOMY, step, capture);
            capture
                .values()
                .forEach(
                    (site, values) ->
                        assertArrayEquals(
                            from(site, config, whole.get(site), first),
                            values,
                            1e-5f,
                            site.name()));
            Capture everything = new Capture(config, sites, TOKENS.length);
            run(model, ROOMY, step, everything);
            sites.forEach(
                site -> assertArrayEquals(everything.at(site, -1), capture.at(site, -1), 1e-5f));
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void tokensHereAndThereAreThoseOfAllTokens(Device device) {
    try (Llama model = load(device, DType.F32)) {
      ModelConfig config = model.config();
      List<Site> sites = Site.all(config);
      int[] some = {0, 2, 3, TOKENS.length - 1};
      for (int step : new int[] {TOKENS.length, 4, 1}) {
        Capture everything = new Capture(config, sites, TOKENS.length);
        run(model, ROOMY, step, everything);
        Capture capture = new Capture(config, sites, TOKENS.length, some, Capture.Generated.NONE);
        run(model, ROOMY, step, capture);
        assertArrayEquals(some, capture.positions());
        for (Site site : sites) {
          int[] shape = capture.shape(site);
          assertEquals(
              Arrays.stream(shape).reduce(1, (a, b) -> a * b), capture.values().get(site).length);
          for (int position : some) {
            assertArrayEquals(
                everything.at(site, position), capture.at(site, position), 1e-5f, site.name());
          }
        }
        assertThrows(IllegalArgumentException.class, () -> capture.at(sites.getFirst(), 1));
      }
    }
  }

  /** What is left of values of all tokens if only those from {@code first} on are asked for. */
  private static float[] from(Site site, ModelConfig config, float[] values, int first) {
    if (!Capture.isPattern(site)) {
      return Arrays.copyOfRange(values, first * site.width(config), values.length);
    }
    int head = TOKENS.length * TOKENS.length;
    float[] rest = new float[0];
    for (int h = 0; h < config.nHeads(); h++) {
      int begin = h * head + first * TOKENS.length;
      rest = AttentionRun.concatenate(rest, Arrays.copyOfRange(values, begin, (h + 1) * head));
    }
    return rest;
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void aBufferTooSmallForAllSitesChangesNothing(Device device) {
    try (Llama model = load(device, DType.F32)) {
      Map<Site, float[]> whole = all(model);
      for (long room : new long[] {1, 1000, 10_000}) {
        Capture capture = new Capture(model.config(), whole.keySet(), TOKENS.length);
        run(model, room, TOKENS.length, capture);
        capture
            .values()
            .forEach((site, values) -> assertArrayEquals(whole.get(site), values, site.name()));
      }
    }
  }

  @Test
  void whatIsOnItsWayIsNotOverwritten() {
    try (LateDevice device = new LateDevice(CpuDevice.open(2));
        Llama model = load(device, DType.F32)) {
      ModelConfig config = model.config();
      Map<Site, float[]> whole = all(model);
      List<Site> others = new ArrayList<>(whole.keySet());
      others.removeIf(site -> site.kind() == Site.Kind.LOGITS);
      int most = 0;
      for (long room = 1000; room < 40_000; room = room * 3 / 2 + 4) {
        Capture first = new Capture(config, whole.keySet(), TOKENS.length);
        Capture second = new Capture(config, others, TOKENS.length, 1);
        device.sent();
        run(model, room, TOKENS.length, first, second);
        long values =
            Stream.of(first, second)
                .flatMap(capture -> capture.values().values().stream())
                .mapToLong(each -> each.length)
                .sum();
        assertEquals(4 * values, device.sent(), "each value comes once");
        most = Math.max(most, device.most());
        first
            .values()
            .forEach((site, all) -> assertArrayEquals(whole.get(site), all, 1e-5f, site.name()));
        second
            .values()
            .forEach(
                (site, rest) ->
                    assertArrayEquals(
                        from(site, config, first.values().get(site), 1), rest, site.name()));
      }
      assertTrue(most > 3, "only " + most + " copies were on their way at once");
    }
  }

  @Test
  void aStepThatFailsLeavesNothingThatTheNextOneTakes() {
    FailingDevice failing = new FailingDevice(CpuDevice.open(2));
    try (LateDevice device = new LateDevice(failing);
        Llama model = load(device, DType.F32);
        Scope scope = device.scope()) {
      Map<Site, float[]> whole = all(model);
      CaptureReader reader = new CaptureReader(scope, model, 4000, 1000);
      for (boolean fails : new boolean[] {true, false}) {
        int sequence = model.cache().open();
        assertTrue(model.cache().reserve(sequence, TOKENS.length));
        Capture capture = new Capture(model.config(), whole.keySet(), TOKENS.length);
        Batch batch = new Batch();
        reader.begin();
        reader.read(batch.add(sequence, 0, TOKENS, new int[TOKENS.length], 0), capture);
        SiteReader hook = (SiteReader) reader.hook();
        if (fails) {
          Site late = new Site(Site.Kind.RESID_POST, model.config().nLayers() - 1);
          SiteHook breaking =
              new SiteHook() {
                @Override
                public boolean wants(Site site) {
                  return hook.wants(site);
                }

                @Override
                public void at(Site site, Matrix values) {
                  if (site.equals(late)) {
                    failing.failWith(new DeviceException("broken"));
                  }
                  hook.at(site, values);
                }

                @Override
                public void atPattern(Site site, Patterns patterns) {
                  hook.atPattern(site, patterns);
                }
              };
          assertThrows(DeviceException.class, () -> model.forward(batch, null, breaking));
          failing.failWith(null);
        } else {
          model.forward(batch, null, hook);
          reader.finish();
          capture
              .values()
              .forEach((site, values) -> assertArrayEquals(whole.get(site), values, site.name()));
        }
        model.cache().release(sequence);
      }
    }
  }

  @Test
  void valuesForWhichJavaHasNoMemoryCostThemselvesAlone() {
    try (Device device = CpuDevice.open(2);
        Llama model = load(device, DType.F32)) {
      ModelConfig config = model.config();
      Site pattern = new Site(Site.Kind.PATTERN, 0);
      Site middle = new Site(Site.Kind.RESID_MID, 0);
      int length = (Integer.MAX_VALUE - 8) / config.nHeads(); // no array is longer
      assumeTrue(Runtime.getRuntime().maxMemory() < 4L * Integer.MAX_VALUE);
      int[] first = {0};
      Capture capture =
          new Capture(config, List.of(pattern, middle), length, first, Capture.Generated.NONE);
      Capture other = new Capture(config, List.of(pattern, middle), TOKENS.length);
      run(model, ROOMY, TOKENS.length, capture, other);
      Map<Site, float[]> whole = all(model);
      other.values().forEach((site, values) -> assertArrayEquals(whole.get(site), values, 1e-5f));
      assertArrayEquals(other.at(middle, 0), capture.at(middle, 0));
      assertThrows(OutOfMemoryError.class, capture::values);
      assertThrows(OutOfMemoryError.class, () -> capture.at(pattern, 0));
    }
  }

  @Test
  void capturesOfOneStepMayDifferInSitesAndTokens() {
    try (Device device = CpuDevice.open(2);
        Llama model = load(device, DType.F32)) {
      ModelConfig config = model.config();
      Map<Site, float[]> whole = all(model);
      Site pattern = new Site(Site.Kind.PATTERN, 1);
      Site middle = new Site(Site.Kind.RESID_MID, 1);
      Site logits = new Site(Site.Kind.LOGITS, -1);
      List<Capture> captures =
          List.of(
              new Capture(config, List.of(middle), TOKENS.length, 3),
              new Capture(config, List.of(middle, pattern), TOKENS.length),
              new Capture(config, List.of(logits, middle), TOKENS.length, 1),
              new Capture(config, List.of(middle), TOKENS.length, 1));
      for (Capture capture : captures) { // a pattern's later keys stay 0 as they are
        capture.values().get(middle)[0] = Float.NaN;
      }
      // Two tokens of each are in a second step.
      run(model, ROOMY, 4, captures.toArray(Capture[]::new));
      for (Capture capture : captures) {
        capture
            .values()
            .forEach(
                (site, values) ->
                    assertArrayEquals(
                        from(site, config, whole.get(site), capture.first()),
                        values,
                        1e-5f,
                        site.name()));
      }
    }
  }

  @Test
  void nothingButTheRowsAndSitesAskedForIsRead() {
    try (Device device = CpuDevice.open(1);
        Llama model = load(device, DType.F32);
        Scope scope = device.scope()) {
      int d = model.config().dModel();
      Site site = new Site(Site.Kind.RESID_POST, 0);
      int sequence = model.cache().open();
      assertTrue(model.cache().reserve(sequence, TOKENS.length));
      Batch batch = new Batch();
      batch.add(sequence, 0, TOKENS, new int[TOKENS.length], TOKENS.length);
      SiteReader reader = new SiteReader(scope, model);
      List<String> asked = new ArrayList<>();
      Buffer values = scope.allocate(8L * d);
      reader.begin();
      reader.read(
          Set.of(site),
          reader.rows(5, 1),
          (where, bytes) -> {
            asked.add(where + " " + bytes);
            return values;
          });
      assertTrue(reader.wants(site));
      assertFalse(reader.wants(new Site(Site.Kind.RESID_POST, 1)));
      model.forward(batch, reader, 0);
      assertEquals(List.of(site + " " + 8L * d), asked);
      float[] whole = all(model).get(site);
      assertArrayEquals(
          AttentionRun.concatenate(
              Arrays.copyOfRange(whole, 5 * d, 6 * d), Arrays.copyOfRange(whole, d, 2 * d)),
          values.toFloats(2 * d));
      reader.begin();
      assertFalse(reader.wants(site), "a new step begins with nothing to read");
    }
  }

  @Test
  void aStepBeforeTheFirstTokenAskedForIsNotLookedAt() {
    try (Device device = CpuDevice.open(1);
        Llama model = load(device, DType.F32);
        Scope scope = device.scope()) {
      CaptureReader reader = new CaptureReader(scope, model);
      Batch batch = new Batch();
      reader.begin();
      reader.read(
          batch.add(0, 0, new int[3], new int[3], 3),
          Capture.last(model.config(), Site.all(model.config()), TOKENS.length));
      assertNull(reader.hook());
    }
  }

  @Test
  void tokensThatAreNotThereAreAnError() {
    ModelConfig config = ModelConfig.read(MODEL);
    List<Site> sites = List.of(new Site(Site.Kind.EMBED, -1));
    for (int first : new int[] {-1, 6, 7}) {
      String error =
          assertThrows(IllegalArgumentException.class, () -> new Capture(config, sites, 6, first))
              .getMessage();
      assertEquals("tokens from " + first + " on of 6: the first must be 0 to 5", error);
    }
  }
}
