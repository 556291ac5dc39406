package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Matrix;
import dev.halter.device.Profile;
import dev.halter.device.ProfiledDevice;
import dev.halter.device.SameBits;
import dev.halter.device.cpu.CpuDevice;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** After the last attention only rows with logits go on, unless somebody looks at the others. */
class OutputRowsTest {
  private static final Path MODEL = Path.of("src/test/resources/goldens/llama3/model");
  private static final int VOCABULARY = 128;
  private static final int D_MODEL = 48;
  private static final int HEADS = 6;
  private static final int[] PROMPT = {5, 9, 11, 40, 3, 7, 90};

  private static Llama load(Device device, DType type) {
    return Llama.load(MODEL, device, type, new Llama.Limits(16, 16, 4, 4, 64));
  }

  private static int open(Llama model) {
    int sequence = model.cache().open();
    model.cache().reserve(sequence, PROMPT.length);
    return sequence;
  }

  private static Batch prompt(int sequence, int slot, int firstOutput) {
    Batch batch = new Batch();
    int[] slots = new int[PROMPT.length];
    Arrays.fill(slots, slot);
    batch.add(sequence, 0, PROMPT, slots, firstOutput);
    return batch;
  }

  private static float[] logits(
      Llama model, SteeringTable steering, SiteHook hook, int firstOutput) {
    int sequence = open(model);
    Batch batch = prompt(sequence, steering == null ? 0 : 1, firstOutput);
    float[] logits = model.forward(batch, steering, hook).toFloats(batch.outputs() * VOCABULARY);
    model.cache().release(sequence);
    return logits;
  }

  /** The same, whatever rows the step's products have; on a GPU as near as the type's rounding. */
  private static void assertSame(float[] expected, float[] actual, DType type) {
    SameBits.assertSame(expected, actual, type == DType.F32 ? 1e-4 : 0.1, "of " + type);
  }

  private static float[] tail(float[] all, int rows) {
    return Arrays.copyOfRange(all, all.length - rows * VOCABULARY, all.length);
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#forModels")
  void logitsAreThoseOfAStepInWhichAllRowsGoOn(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      try (Llama model = load(device, type)) {
        float[] all = logits(model, null, null, 0);
        assertSame(tail(all, 2), logits(model, null, null, PROMPT.length - 2), type);

        int sequence = open(model);
        Batch first = new Batch();
        first.add(sequence, 0, Arrays.copyOf(PROMPT, 4), new int[4], 4); // no row goes on
        model.forward(first, null);
        Batch rest = new Batch();
        rest.add(sequence, 4, Arrays.copyOfRange(PROMPT, 4, 7), new int[3], 2);
        assertSame(tail(all, 1), model.forward(rest, null).toFloats(VOCABULARY), type);
        model.cache().release(sequence);
      }
    }
  }

  /** Keeps the rows of one site. */
  private static final class Kept implements SiteHook {
    private final Site site;
    private final List<float[]> seen = new ArrayList<>();

    Kept(Site site) {
      this.site = site;
    }

    @Override
    public boolean wants(Site other) {
      return other.equals(site);
    }

    @Override
    public void at(Site at, Matrix values) {
      seen.add(values.buffer().toFloats(PROMPT.length * D_MODEL));
    }
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#forModels")
  void whoLooksAtTheLastBlockSeesAllRows(Device device) {
    try (Llama model = load(device, DType.F32)) {
      int last = model.config().nLayers() - 1;
      for (Site.Kind kind :
          List.of(
              Site.Kind.RESID_MID,
              Site.Kind.RESID_POST,
              Site.Kind.LN2_NORMALIZED,
              Site.Kind.LN_FINAL_NORMALIZED)) {
        Site site = new Site(kind, kind == Site.Kind.LN_FINAL_NORMALIZED ? -1 : last);
        Kept whole = new Kept(site);
        float[] all = logits(model, null, whole, 0);
        Kept cut = new Kept(site);
        assertSame(tail(all, 1), logits(model, null, cut, PROMPT.length - 1), DType.F32);
        assertEquals(1, cut.seen.size());
        assertSame(whole.seen.getFirst(), cut.seen.getFirst(), DType.F32);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#forModels")
  void editsOfTheLastBlockReachAndReportAllRows(Device device) {
    try (Llama model = load(device, DType.F32)) {
      int last = model.config().nLayers() - 1;
      float[] vector = new float[D_MODEL];
      Arrays.fill(vector, 0.5f);
      float[] unsteered = logits(model, null, null, PROMPT.length - 1);
      for (int layer : new int[] {last, 0}) {
        Edit edit = new Edit.Add(new Site(Site.Kind.RESID_POST, layer), vector, 1);
        try (SteeringTable table = new SteeringTable(device, List.of(List.of(edit)), HEADS)) {
          float[] all = logits(model, table, null, 0);
          float[] changes = model.changes().toFloats(PROMPT.length * table.reportStride());
          float[] cut = logits(model, table, null, PROMPT.length - 1);
          assertSame(tail(all, 1), cut, DType.F32);
          assertFalse(Arrays.equals(unsteered, cut));
          assertTrue(changes[0] > 0);
          float[] again = model.changes().toFloats(PROMPT.length * table.reportStride());
          assertSame(changes, again, DType.F32);
          model.forget(table);
        }
      }
    }
  }

  /** Operations of a step's products. */
  private static long operations(int firstOutput, SiteHook hook) {
    try (ProfiledDevice device = new ProfiledDevice(CpuDevice.open(1), table -> {});
        Llama model = load(device, DType.F32)) {
      logits(model, null, hook, firstOutput);
      return device.profile().rows().stream()
          .filter(row -> row.operations() != Profile.UNKNOWN)
          .mapToLong(Profile.Row::operations)
          .sum();
    }
  }

  @Test
  void productsOfOtherRowsAreLeftOut() {
    Kept looks = new Kept(new Site(Site.Kind.RESID_POST, 2));
    long whole = operations(PROMPT.length - 1, looks);
    try (Device device = CpuDevice.open(1);
        Llama model = load(device, DType.F32)) {
      var config = model.config();
      assertEquals(3, config.nLayers());
      long perRow =
          2L * config.dModel() * ((long) config.nHeads() * config.dHead() + 3L * config.dMlp());
      assertEquals(perRow * (PROMPT.length - 1), whole - operations(PROMPT.length - 1, null));
    }
  }
}
