package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.sparse.Code;
import dev.halter.sparse.CodingPlan;
import dev.halter.sparse.Dictionary;
import dev.halter.sparse.Solver;
import dev.halter.sparse.SparseCoder;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What the pages of {@code dev.halter.sparse} show. */
class SparseSnippetsTest {
  @Test
  void code() {
    String concept;
    double amount;
    // @start region="code"
    float[] atoms = {1, 0, 0, 0, 1, 0, 0, 0, 1}; // three of three numbers
    float[] vector = {0, 2, 0.5f};
    try (Device device = Devices.open("cpu", 1, true);
        Dictionary dictionary =
            new Dictionary(
                device,
                Path.of("axes"),
                List.of("x", "y", "z"),
                3,
                DType.F32,
                (first, into) -> System.arraycopy(atoms, 3 * first, into, 0, into.length))) {
      Solver solver = new Solver.Omp(1, 0);
      CodingPlan plan = CodingPlan.of(dictionary, solver, 1, 1);
      try (SparseCoder coder = new SparseCoder(dictionary, solver, plan)) {
        Code code = coder.solve(vector).getFirst();
        concept = dictionary.name(code.support()[0]);
        amount = code.coefficients()[0];
      }
    }
    // @end
    assertEquals("y", concept);
    assertEquals(2, amount, 1e-6);
  }
}
