package dev.halter.neurons;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.neurons.NeuronMap.Sign;
import dev.halter.neurons.NeuronSearch.Bounds;
import dev.halter.neurons.NeuronSearch.Hit;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import java.util.function.Predicate;
import org.junit.jupiter.api.Test;

class NeuronSearchTest {
  private static final NeuronMap MAP = MadeMap.random(Sign.BOTH, 5, 37, 61, 7, 3);
  private static final NeuronSearch SEARCH = new NeuronSearch(MAP);

  /** Every neuron and sign that names one of the tokens, by looking at all of them. */
  private static List<Hit> scan(Set<Integer> tokens) {
    List<Hit> hits = new ArrayList<>();
    for (int layer = 0; layer < 5; layer++) {
      for (int neuron = 0; neuron < 37; neuron++) {
        for (int s = 0; s < 2; s++) {
          for (int rank = 6; rank >= 0; rank--) {
            int at = MAP.at(layer, neuron, s) + rank;
            if (tokens.contains(MAP.tokenIds()[at])) {
              double p = Math.exp(MAP.logits()[at] - MAP.logZ()[MAP.row(layer, neuron, s)]);
              hits.removeIf(is(layer, neuron, 1 - 2 * s));
              hits.add(
                  new Hit(layer, neuron, 1 - 2 * s, rank, MAP.tokenIds()[at], MAP.logits()[at], p));
            }
          }
        }
      }
    }
    hits.sort(Comparator.comparingDouble(Hit::probability).reversed());
    return hits;
  }

  private static Predicate<Hit> is(int layer, int neuron, int sign) {
    return hit -> hit.layer() == layer && hit.neuron() == neuron && hit.sign() == sign;
  }

  @Test
  void theIndexFindsWhatAScanFinds() {
    for (Set<Integer> tokens : List.of(Set.of(0), Set.of(60), Set.of(17, 3), Set.of(5, 6, 7, 8))) {
      List<Hit> hits = SEARCH.byToken(tokens, Bounds.NONE);
      assertEquals(scan(tokens), hits);
      assertTrue(hits.size() > 10);
      assertEquals(hits.subList(0, 3), SEARCH.byToken(tokens, Bounds.top(3)));
    }
    assertEquals(List.of(), SEARCH.byToken(Set.of(61, 1_000_000), Bounds.NONE));
  }

  @Test
  void boundsKeepTheirLayersAndProbabilities() {
    List<Hit> all = SEARCH.byToken(Set.of(9), Bounds.NONE);
    double middle = all.get(all.size() / 2).probability();
    List<Hit> some = SEARCH.byToken(Set.of(9), new Bounds(1, 3, middle, 1000));
    List<Hit> expected =
        all.stream()
            .filter(hit -> hit.layer() >= 1 && hit.layer() <= 3 && hit.probability() >= middle)
            .toList();
    assertEquals(expected, some);
    assertTrue(some.size() > 1 && some.size() < all.size() / 2 + 1);
  }

  @Test
  void aNeuronShowsItsTokensSignBySign() {
    List<Hit> own = SEARCH.byNeuron(4, 36, 3);
    assertEquals(6, own.size());
    for (int i = 0; i < 6; i++) {
      assertEquals(i < 3 ? 1 : -1, own.get(i).sign());
      assertEquals(i % 3, own.get(i).rank());
      assertEquals(MAP.tokenIds()[MAP.at(4, 36, i / 3) + i % 3], own.get(i).tokenId());
    }
    for (int[] none : new int[][] {{5, 0}, {0, 37}, {-1, 0}}) {
      var error =
          assertThrows(IllegalArgumentException.class, () -> SEARCH.byNeuron(none[0], none[1], 1));
      assertTrue(error.getMessage().contains("0 to 36"), error.getMessage());
    }
  }
}
