package dev.halter.heads;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class RepeDirectionTest {
  @Test
  void pointsToThePositiveSideAndIsAsLongAsTheSidesLieApart() {
    Random random = new Random(3);
    List<float[]> positive = new ArrayList<>();
    List<float[]> negative = new ArrayList<>();
    for (int i = 0; i < 60; i++) {
      float[] base = new float[5];
      float[] moved = new float[5];
      for (int j = 0; j < 5; j++) {
        base[j] = (float) random.nextGaussian();
        moved[j] = base[j] + 0.02f * (float) random.nextGaussian();
      }
      moved[1] -= 3;
      moved[4] += 4;
      negative.add(base);
      positive.add(moved);
    }
    float[] expected = {0, -3, 0, 0, 4};
    assertArrayEquals(expected, RepeDirection.pca(positive, negative), 0.05f);
    float[] opposite = {0, 3, 0, 0, -4};
    assertArrayEquals(opposite, RepeDirection.pca(negative, positive), 0.05f);
    List<List<float[]>> tasks = List.of(List.of(expected), List.of(new float[] {2, 3, 0, 0, 0}));
    assertArrayEquals(new float[] {1, 0, 0, 0, 2}, RepeDirection.mean(tasks).getFirst());
  }

  @Test
  void sidesThatDoNotDifferHaveNoDirection() {
    List<float[]> same = List.of(new float[] {1, 2}, new float[] {3, 4}, new float[] {0, 1});
    IllegalArgumentException error =
        assertThrows(IllegalArgumentException.class, () -> RepeDirection.pca(same, same));
    assertEquals("the pairs do not differ: there is no direction", error.getMessage());
  }
}
