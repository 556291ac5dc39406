package dev.halter.patching;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.ScarceDevice;
import dev.halter.device.Scope;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.Llama;
import dev.halter.model.Positionwise;
import dev.halter.model.Site;
import dev.halter.patching.PathPatching.Variant;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Memory that runs out at any allocation: a clear error, and nothing is left of what was begun. */
class ScarceMemoryTest {
  private static final PatchingGolden GOLDEN = new PatchingGolden("llama3");
  private static final List<Pair> PAIRS =
      GOLDEN.aligned().stream().map(PatchingGolden.Case::pair).toList();
  private static final Site START = new Site(Site.Kind.RESID_PRE, 1);

  private final ScarceDevice device = new ScarceDevice(CpuDevice.open(2));
  private Llama model;

  @BeforeEach
  void load() {
    model = GOLDEN.load(device, DType.BF16); // its senders need a buffer more than those of f32
  }

  @AfterEach
  void nothingIsLeft() {
    assertEquals(model.limits().sequences(), model.cache().sequencesFree());
    assertEquals(model.limits().pages(), model.cache().pagesFree());
    model.close();
    assertEquals(0, device.buffers());
    device.close();
  }

  private PairActivations activations(Scope scope) {
    Set<Site> references = Set.of(START, new Site(Site.Kind.RESID_MID, 0));
    return new PairActivations(scope, model, PAIRS, true, references, PathRows.senders(1));
  }

  @Test
  void activationsAreReadWholeOrNotAtAll() {
    int allocations =
        device.assertNothingLeaks(
            () -> {
              try (Scope scope = device.scope()) {
                activations(scope);
              }
            });
    assertEquals(5, allocations, "a list of rows and four sites");
  }

  @Test
  void rowsOfSendersAreMadeWholeOrNotAtAll() {
    try (Scope whole = device.scope()) {
      PairActivations activations = activations(whole);
      PatchKernels kernels = new PatchKernels(model);
      int allocations =
          device.assertNothingLeaks(
              () -> {
                try (Scope scope = device.scope()) {
                  Positionwise positionwise = new Positionwise(scope, model, 8);
                  PathRows rows = new PathRows(scope, model, kernels, positionwise, activations, 1);
                  rows.begin(new Site(Site.Kind.RESID_MID, 0));
                  rows.joinHeads(0);
                }
              });
      assertEquals(6, allocations, "four buffers of an MLP, rows, and z as bf16");
    }
  }

  @Test
  void patchedRunsAreMadeWholeOrNotAtAll() {
    try (Scope whole = device.scope()) {
      PairActivations activations = activations(whole);
      Site z = new Site(Site.Kind.Z, 1);
      Buffer values = whole.allocate(4L * z.width(model.config()));
      values.clear();
      PatchedRuns.Source source = new PatchedRuns.Source(z, values, z.width(model.config()), false);
      PatchedRuns.Patch patch = new PatchedRuns.Patch(source, 0, 0, 1, 0);
      List<PatchedRuns.Run> runs =
          List.of(new PatchedRuns.Run(0, List.of(patch)), new PatchedRuns.Run(0, List.of()));
      int d = model.config().dModel();
      Buffer ends = whole.allocate(8L * d);
      PatchedRuns patched = new PatchedRuns(model, new PatchKernels(model), PAIRS, activations);
      int allocations = device.assertNothingLeaks(() -> patched.run(1, runs, ends));
      assertEquals(3, allocations, "two lists of rows and one of cells");
    }
  }

  @Test
  void everySweepEndsWholeOrLeavesNothing() {
    List<Receiver> receivers = List.of(Receiver.parse("2.0.q", model.config()));
    double expected = delta(PathPatching.of(model, PAIRS, Variant.RECOMPUTE, true, done -> {}));
    device.assertNothingLeaks(
        () -> PathPatching.of(model, PAIRS, Variant.RECOMPUTE, true, done -> {}));
    device.assertNothingLeaks(() -> HeadToHead.of(model, PAIRS, receivers, true, done -> {}));
    device.assertNothingLeaks(
        () ->
            ActivationPatching.of(
                model, PAIRS.subList(0, 1), Site.Kind.Z, false, true, done -> {}));
    assertTrue(Math.abs(expected) > 0);
    assertArrayEquals(
        new double[] {expected},
        new double[] {delta(PathPatching.of(model, PAIRS, Variant.RECOMPUTE, true, done -> {}))});
  }

  private static double delta(Effects effects) {
    return effects.top(1).getFirst().effect().delta();
  }

  @Test
  void aPromptThatDoesNotFitTheCacheIsAnErrorThatLeavesNothing() {
    int sequence = model.cache().open();
    assertTrue(model.cache().reserve(sequence, model.limits().maxTokens()));
    List<Integer> lengths = List.of(model.cache().pagesFree() * 64 + 1);
    assertThrows(
        IllegalArgumentException.class, () -> Prefill.Sequences.open(model.cache(), lengths));
    model.cache().release(sequence);
  }
}
