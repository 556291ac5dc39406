package dev.halter.sparse;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Device;
import dev.halter.device.ScarceDevice;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cuda.TestCuda;
import dev.halter.sparse.CodingPlan.Correlations;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Memory that runs out at any allocation: a clear error, and nothing is left of what was begun. */
class ScarceMemoryTest {
  private static final List<Solver> SOLVERS =
      List.of(
          new Solver.Omp(5, 0), new Solver.MatchingPursuit(5), new Solver.ElasticNet(0.05, 0.95));

  private final GoldenCodes golden = new GoldenCodes("gaussian");
  private final float[] vectors = Arrays.copyOf(golden.vectors, 2 * golden.d);

  static Stream<ScarceDevice> devices() {
    Stream<Device> devices =
        TestCuda.REAL ? Stream.of(TestCuda.open()) : Stream.of(CpuDevice.open(2), TestCuda.open());
    return devices.map(ScarceDevice::new);
  }

  @ParameterizedTest
  @MethodSource("devices")
  void aDictionaryIsThereWholeOrNotAtAll(ScarceDevice device) {
    assertEquals(2, device.assertNothingLeaks(() -> golden.dictionary(device).close()));
  }

  @ParameterizedTest
  @MethodSource("devices")
  void aCoderIsThereWholeOrNotAtAll(ScarceDevice device) {
    try (Dictionary dictionary = golden.dictionary(device)) {
      for (Solver solver : SOLVERS) {
        for (Correlations correlations : Correlations.values()) {
          CodingPlan plan = CodingPlan.of(dictionary, solver, 2, correlations);
          int allocations =
              device.assertNothingLeaks(() -> new SparseCoder(dictionary, solver, plan).close());
          assertTrue(allocations > 16, plan + ": " + allocations);
        }
      }
    }
    assertEquals(0, device.buffers());
  }

  /** The Gram matrix is made by the first row that needs it, a second coder by one that is full. */
  @ParameterizedTest
  @MethodSource("devices")
  void solvingLeavesNothing(ScarceDevice device) {
    Solver net = SOLVERS.getLast();
    for (Correlations correlations : Correlations.values()) {
      int enough = device.assertNothingLeaks(() -> solve(device, net, correlations, 64));
      int full = device.assertNothingLeaks(() -> solve(device, net, correlations, 3));
      assertTrue(full > enough + 16, full + " allocations where " + enough + " are enough");
    }
    assertEquals(0, device.buffers());
  }

  private void solve(Device device, Solver solver, Correlations correlations, int support) {
    try (Dictionary dictionary = golden.dictionary(device);
        SparseCoder coder =
            new SparseCoder(
                dictionary, solver, CodingPlan.of(dictionary, solver, 2, correlations, support))) {
      coder.solve(vectors).forEach(code -> assertNull(code.error()));
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void aCoderGoesOnAfterVectorsThatDidNotFit(ScarceDevice device) {
    for (Solver solver : SOLVERS) {
      try (Dictionary dictionary = golden.dictionary(device);
          SparseCoder coder =
              new SparseCoder(
                  dictionary,
                  solver,
                  CodingPlan.of(dictionary, solver, 2, Correlations.PRODUCTS))) {
        List<Code> expected = coder.solve(vectors);
        device.assertNothingLeaks(() -> coder.solve(vectors));
        List<Code> codes = coder.solve(vectors);
        for (int row = 0; row < expected.size(); row++) {
          assertEquals(expected.get(row).objective(), codes.get(row).objective());
          assertTrue(codes.get(row).support().length > 2);
        }
      }
    }
  }
}
