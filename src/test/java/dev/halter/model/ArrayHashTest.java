package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.HashSet;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Digests of arrays: equal for equal contents and for no others, and made once. */
class ArrayHashTest {
  private static float[] random(int count) {
    Random random = new Random(count);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = random.nextFloat();
    }
    return values;
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 48, 511, 512, 513, 1023, 1024, 1025, 4096, 5000})
  void everyBitOfEveryPlaceCounts(int count) {
    ArrayHash hash = new ArrayHash();
    float[] values = random(count);
    ArrayHash.Digest digest = hash.of(values);
    assertEquals(digest, hash.of(values.clone()));
    int[] bits = new int[count];
    for (int i = 0; i < count; i++) {
      bits[i] = Float.floatToRawIntBits(values[i]);
    }
    assertEquals(digest, hash.of(bits), "they hold the same");
    Set<ArrayHash.Digest> seen = new HashSet<>(Set.of(digest));
    for (int i = 0; i < count; i += Math.max(1, count / 300)) {
      for (int bit : new int[] {0, 31}) {
        int[] other = bits.clone();
        other[i] ^= 1 << bit;
        assertTrue(seen.add(hash.of(other)), "value " + i + ", bit " + bit);
      }
    }
    assertTrue(seen.add(hash.of(new float[count])), "zeros");
    assertTrue(seen.add(hash.of(new float[count + 1])), "a zero more");
  }

  @Test
  void exchangedValuesAndHalvesAreOthers() {
    ArrayHash hash = new ArrayHash();
    int[] values = {3, 0, 7, 0};
    ArrayHash.Digest digest = hash.of(values);
    assertNotEquals(digest, hash.of(new int[] {7, 0, 3, 0}));
    int[] halves = new int[1024]; // of one piece: a product is of a value of each
    int[] turned = new int[1024];
    for (int i = 0; i < 512; i++) {
      halves[i] = turned[512 + i] = 2 + i;
      turned[i] = halves[512 + i] = 3 * i;
    }
    assertNotEquals(hash.of(halves), hash.of(turned));
    assertNotEquals(digest, new ArrayHash().of(values), "whose keys nobody else has");
  }

  @Test
  void anArrayIsReadOnce() {
    ArrayHash hash = new ArrayHash();
    float[] values = random(4096);
    ArrayHash.Digest digest = hash.of(values);
    values[0]++; // which nobody may
    assertEquals(digest, hash.of(values));
    assertNotEquals(digest, hash.of(values.clone()));
  }
}
