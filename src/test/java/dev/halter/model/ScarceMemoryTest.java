package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.ScarceDevice;
import dev.halter.device.Scope;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cuda.TestCuda;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Memory that runs out at any allocation: a clear error, and nothing is left of what was begun. */
class ScarceMemoryTest {
  private static final Path MODEL = Path.of("src/test/resources/goldens/qwen2/model"); // biases
  private static final Llama.Limits LIMITS = new Llama.Limits(8, 8, 2, 2, 64);
  private static final int[] TOKENS = {3, 4, 5};

  static Stream<ScarceDevice> devices() {
    Stream<Device> devices =
        TestCuda.REAL ? Stream.of(TestCuda.open()) : Stream.of(CpuDevice.open(2), TestCuda.open());
    return devices.map(ScarceDevice::new);
  }

  @ParameterizedTest
  @MethodSource("devices")
  void aModelIsLoadedWholeOrNotAtAll(ScarceDevice device) {
    int layers = ModelConfig.read(MODEL).nLayers();
    int allocations =
        device.assertNothingLeaks(() -> Llama.load(MODEL, device, DType.F32, LIMITS).close());
    assertTrue(allocations > 10 * layers, "only " + allocations + " allocations");
    assertEquals(0, device.buffers());
  }

  @ParameterizedTest
  @MethodSource("devices")
  void aCacheIsAllocatedWholeOrNotAtAll(ScarceDevice device) {
    ModelConfig config = ModelConfig.read(MODEL);
    int allocations =
        device.assertNothingLeaks(
            () -> {
              try (Scope scope = device.scope()) {
                new KvCache(scope, config, DType.F32, 4, 2, 64);
              }
            });
    assertEquals(
        2 * config.nLayers() + 2,
        allocations,
        "keys, values, the table of pages, and where all lie");
  }

  @ParameterizedTest
  @MethodSource("devices")
  void aModelGoesOnAfterAStepThatDidNotFit(ScarceDevice device) {
    try (Llama model = Llama.load(MODEL, device, DType.F32, LIMITS)) {
      float[] expected = step(model, null, null);
      List<Site> sites = List.of(new Site(Site.Kind.PATTERN, 0), new Site(Site.Kind.RESID_MID, 1));
      int allocations =
          device.assertNothingLeaks(
              () -> step(model, null, new Capture(model.config(), sites, TOKENS.length)));
      assertEquals(3, allocations, "the reader's rows, its values, a pattern's heads");
      assertArrayEquals(expected, step(model, null, null));

      // The report of many edits takes a larger buffer than the model has at first.
      Edit add =
          new Edit.Add(new Site(Site.Kind.RESID_MID, 0), new float[model.config().dModel()], 1);
      try (SteeringTable one = table(device, model, List.of(add));
          SteeringTable three = table(device, model, List.of(add, add, add))) {
        float[] steered = step(model, one, null);
        device.assertNothingLeaks(() -> step(model, three, null));
        assertArrayEquals(steered, step(model, one, null));
      }
    }
    assertEquals(0, device.buffers());
  }

  @ParameterizedTest
  @MethodSource("devices")
  void steeringTablesAreBuiltWholeOrNotAtAll(ScarceDevice device) {
    Edit.HeadAffine maps = AttentionRun.maps(AttentionRun.config(4, 2, 8, 0), 1, 0, 2);
    List<Edit> edits =
        List.of(
            new Edit.Add(new Site(Site.Kind.RESID_MID, 0), new float[8], 1),
            new Edit.Neurons(new Site(Site.Kind.PRE, 0), new int[] {1}, 1, 2, 2),
            new Edit.Heads(new Site(Site.Kind.Z, 0), new int[] {1}, 0),
            maps);
    device.assertNothingLeaks(() -> new SteeringTable(device, List.of(edits, edits), 4).close());
  }

  private static SteeringTable table(Device device, Llama model, List<Edit> edits) {
    return new SteeringTable(device, List.of(edits), model.config().nHeads());
  }

  private static float[] step(Llama model, SteeringTable steering, Capture capture) {
    int sequence = model.cache().open();
    model.cache().reserve(sequence, TOKENS.length);
    try (Scope scope = model.device().scope()) {
      Batch batch = new Batch();
      int[] slots = steering == null ? new int[3] : new int[] {0, 1, 1};
      Batch.Span span = batch.add(sequence, 0, TOKENS, slots, 0);
      CaptureReader reader = new CaptureReader(scope, model);
      reader.begin();
      if (capture != null) {
        reader.read(span, capture);
      }
      Buffer logits = model.forward(batch, steering, reader.hook());
      reader.finish();
      return logits.toFloats(TOKENS.length * model.config().vocabularySize());
    } finally {
      model.cache().release(sequence);
    }
  }
}
