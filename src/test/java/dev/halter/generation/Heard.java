package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import dev.halter.device.SameBits;
import java.util.List;

/**
 * What a request gave.
 *
 * @param rows log-probabilities of tokens that were asked for, at each of its own
 */
record Heard(Result result, List<float[]> rows) {
  /** Of requests that are told those of {@code named}. */
  static List<Heard> run(Engine engine, List<Request> requests, LogProbabilities named) {
    return engine.run(requests.stream().map(request -> request.with(named)).toList()).stream()
        .map(
            result ->
                new Heard(result, result.alternatives().stream().map(EngineTest::row).toList()))
        .toList();
  }

  /** Same tokens, reports and log-probabilities; on a GPU within a bound. */
  static void assertSame(List<Heard> expected, List<Heard> actual) {
    for (int i = 0; i < expected.size(); i++) {
      Result was = expected.get(i).result;
      Result is = actual.get(i).result;
      String id = was.request().id();
      assertArrayEquals(was.orThrow().tokens(), is.orThrow().tokens(), id);
      SameResults.assertSame(was.report(), is.report(), id);
      for (int j = 0; j < expected.get(i).rows.size(); j++) {
        SameBits.assertSame(
            expected.get(i).rows.get(j), actual.get(i).rows.get(j), SameResults.BOUND, id);
      }
    }
  }
}
