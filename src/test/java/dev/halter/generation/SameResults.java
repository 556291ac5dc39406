package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.SameBits;
import dev.halter.steering.SteeringReport;
import dev.halter.steering.SteeringReport.Entry;

/** That requests have the same results with whatever others they run. */
final class SameResults {
  /** Of log-probabilities and of mean changes of some units, on a GPU. */
  static final double BOUND = 1e-4;

  private SameResults() {}

  /** The same tokens, their log-probabilities, end and report. */
  static void assertSame(Result expected, Result actual) {
    String id = expected.request().id();
    assertArrayEquals(expected.tokens(), actual.tokens(), id);
    SameBits.assertSame(expected.logProbabilities(), actual.logProbabilities(), BOUND, id);
    assertEquals(expected.finish(), actual.finish(), id);
    assertSame(expected.report(), actual.report(), id);
  }

  /** The same report, whose norms alone depend on how the device rounds. */
  static void assertSame(SteeringReport expected, SteeringReport actual, String id) {
    assertEquals(expected.notes(), actual.notes(), id);
    assertEquals(expected.interventions().size(), actual.interventions().size(), id);
    for (int i = 0; i < expected.interventions().size(); i++) {
      Entry was = expected.interventions().get(i);
      Entry is = actual.interventions().get(i);
      double allowed = SameBits.allowed(BOUND * was.meanChange());
      assertEquals(was.meanChange(), is.meanChange(), allowed, id + ": " + was);
      Entry rounded = new Entry(is.op(), is.site(), is.tokens(), was.meanChange(), is.concepts());
      assertEquals(was, rounded, id);
    }
  }
}
