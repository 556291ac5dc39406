package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * A residual add that takes the next norm along leaves every bit of the forward pass as it is when
 * somebody looks or acts between the two, so that they run apart.
 */
class NormInPassingTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#forModels";
  private static final int[] TOKENS = {5, 9, 2, 30, 7};
  private static final int[] SLOTS = {0, 1, 2, 1, 0};

  @ParameterizedTest
  @MethodSource(DEVICES)
  void aCaptureOrAHookBetweenThemChangesNoBit(Device device) {
    for (String name : List.of("llama-bias", "qwen3")) {
      Path folder = Path.of("src/test/resources/goldens", name, "model");
      for (DType type : List.of(DType.F32, DType.BF16)) {
        try (Llama model = Llama.load(folder, device, type, new Llama.Limits(8, 8, 1, 1, 8))) {
          check(model);
        }
      }
    }
  }

  private static void check(Llama model) {
    ModelConfig config = model.config();
    Capture capture = new Capture(config, List.of(new Site(Site.Kind.RESID_MID, 0)), TOKENS.length);
    float[] plain = run(model, null, null, null);
    assertArrayEquals(plain, run(model, null, capture, null));
    for (Site.Kind kind : List.of(Site.Kind.ATTN_OUT, Site.Kind.RESID_MID, Site.Kind.RESID_POST)) {
      assertArrayEquals(plain, run(model, null, null, new Site(kind, 0)));
    }
    assertArrayEquals(plain, run(model, null, null, new Site(Site.Kind.RESID_PRE, 1)));

    float[] vector = Values.random(DType.F32, config.dModel(), 3);
    float[] unit = new float[config.dModel()];
    unit[config.dModel() / 2] = 1;
    List<Edit> first =
        List.of(
            new Edit.Add(new Site(Site.Kind.RESID_MID, 0), vector, 0.1f),
            new Edit.Project(new Site(Site.Kind.MLP_OUT, 0), unit, 2, 3),
            new Edit.Project(new Site(Site.Kind.RESID_PRE, 1), unit, -4, -4));
    List<Edit> second =
        List.of(
            new Edit.Add(new Site(Site.Kind.ATTN_OUT, 1), vector, 0.2f),
            new Edit.Neurons(new Site(Site.Kind.PRE, 1), new int[] {0, 3}, 1, 2, 2),
            new Edit.Project(new Site(Site.Kind.RESID_POST, 0), unit, 1, 1));
    try (SteeringTable table =
        new SteeringTable(model.device(), List.of(first, second), config.nHeads())) {
      float[] steered = run(model, table, null, null);
      assertArrayEquals(steered, run(model, table, capture, null));
      assertArrayEquals(steered, run(model, table, null, new Site(Site.Kind.RESID_PRE, 1)));
      assertFalse(Arrays.equals(plain, Arrays.copyOf(steered, plain.length)));
      for (int slot = 1; slot <= 2; slot++) {
        for (SteeringTable.ReportPlace place : table.places(slot)) {
          int row = plain.length + slot * table.reportStride(); // tokens 1 and 2 have these slots
          assertNotEquals(0, steered[row + place.at()]);
        }
      }
    }
  }

  /** Logits of all tokens, then what steering changed. */
  private static float[] run(Llama model, SteeringTable table, Capture capture, Site looksAt) {
    int sequence = model.cache().open();
    model.cache().reserve(sequence, TOKENS.length);
    Batch batch = new Batch();
    Batch.Span span = batch.add(sequence, 0, TOKENS, table == null ? new int[5] : SLOTS, 0);
    int count = TOKENS.length * model.config().vocabularySize();
    float[] logits;
    try (Scope scope = model.device().scope()) {
      CaptureReader reader = new CaptureReader(scope, model);
      reader.begin();
      if (capture != null) {
        reader.read(span, capture);
      }
      SiteHook hook = looksAt == null ? reader.hook() : new Looking(looksAt);
      logits = model.forward(batch, table, hook).toFloats(count);
      reader.finish();
    }
    model.cache().release(sequence);
    return table == null
        ? logits
        : AttentionRun.concatenate(
            logits, model.changes().toFloats(batch.rows() * table.reportStride()));
  }

  private record Looking(Site site) implements SiteHook {
    @Override
    public boolean wants(Site other) {
      return site.equals(other);
    }

    @Override
    public void at(Site other, Matrix values) {}
  }
}
