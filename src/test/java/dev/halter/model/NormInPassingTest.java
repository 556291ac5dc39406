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
 * somebody looks or acts between the two, so that they run apart; and so do the products of few
 * rows, which take more along, in a step of decode on CUDA.
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
        try (Llama model = Llama.load(folder, device, type, new Llama.Limits(8, 8, 5, 5, 8))) {
          check(model, false);
          check(model, true);
        }
      }
    }
  }

  private static void check(Llama model, boolean decodes) {
    ModelConfig config = model.config();
    Site captured = new Site(Site.Kind.RESID_MID, 0);
    float[] plain = run(model, decodes, null, null, null);
    assertArrayEquals(plain, run(model, decodes, null, captured, null));
    for (Site.Kind kind :
        List.of(
            Site.Kind.Q,
            Site.Kind.V,
            Site.Kind.ROT_K,
            Site.Kind.ATTN_OUT,
            Site.Kind.RESID_MID,
            Site.Kind.LN2_NORMALIZED,
            Site.Kind.PRE,
            Site.Kind.PRE_LINEAR,
            Site.Kind.POST,
            Site.Kind.RESID_POST)) {
      assertArrayEquals(plain, run(model, decodes, null, null, new Site(kind, 0)));
    }
    assertArrayEquals(plain, run(model, decodes, null, null, new Site(Site.Kind.RESID_PRE, 1)));

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
      float[] steered = run(model, decodes, table, null, null);
      assertArrayEquals(steered, run(model, decodes, table, captured, null));
      assertArrayEquals(
          steered, run(model, decodes, table, null, new Site(Site.Kind.RESID_PRE, 1)));
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
  private static float[] run(
      Llama model, boolean decodes, SteeringTable table, Site captured, Site looksAt) {
    int[] slots = table == null ? new int[5] : SLOTS;
    int[] sequences = new int[decodes ? TOKENS.length : 1];
    Batch batch = new Batch();
    for (int i = 0; i < sequences.length; i++) {
      sequences[i] = model.cache().open();
      model.cache().reserve(sequences[i], TOKENS.length);
      if (decodes) {
        batch.add(sequences[i], 0, new int[] {TOKENS[i]}, new int[] {slots[i]}, 0);
      } else {
        batch.add(sequences[i], 0, TOKENS, slots, 0);
      }
    }
    int count = TOKENS.length * model.config().vocabularySize();
    float[] logits;
    try (Scope scope = model.device().scope()) {
      CaptureReader reader = new CaptureReader(scope, model);
      reader.begin();
      if (captured != null) {
        // All tokens, or the one of each sequence.
        for (Batch.Span span : batch.spans()) {
          reader.read(span, new Capture(model.config(), List.of(captured), span.length()));
        }
      }
      SiteHook hook = looksAt == null ? reader.hook() : new Looking(looksAt);
      logits = model.forward(batch, table, hook).toFloats(count);
      reader.finish();
    }
    for (int sequence : sequences) {
      model.cache().release(sequence);
    }
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
