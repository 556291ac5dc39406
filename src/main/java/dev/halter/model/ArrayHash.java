package dev.halter.model;

import dev.halter.weights.Fingerprint;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.security.SecureRandom;
import java.util.Arrays;
import java.util.Map;
import java.util.WeakHashMap;

/**
 * Digests of what arrays of edits hold, each made once for an array. They are equal for equal
 * contents and, but for one chance in 2^64, for no others, whoever makes the arrays: the keys are
 * secret and of this object alone.
 *
 * <p>Vectors of thousands of values come with every plan, and SHA-256 takes ten microseconds for
 * one. So pieces of an array go through NH first, which is a sum of products that the compiler
 * vectorises (Black, Halevi, Krawczyk, Krovetz and Rogaway, UMAC, CRYPTO 1999, section 3: two
 * passes, with Toeplitz shifted keys), and only their sums through SHA-256.
 *
 * <p>Belongs to one thread at a time.
 */
public final class ArrayHash {
  /** Products of a piece. */
  private static final int PAIRS = 512;

  private static final int WORDS = 2 * PAIRS;
  private static final int PASSES = 2;
  private static final long LOW = 0xFFFFFFFFL;

  private final int[] keys; // [2, PAIRS + PASSES - 1], one pair's apart from pass to pass
  private final int[] piece = new int[WORDS];
  private final Map<Object, Digest> known = new WeakHashMap<>(); // arrays: equal to none but itself

  /** 128 bits, which stand for a content. */
  public record Digest(long high, long low) {}

  /** With secret keys of its own. */
  public ArrayHash() {
    keys = new int[2 * (PAIRS + PASSES - 1)];
    byte[] secret = new byte[4 * keys.length];
    new SecureRandom().nextBytes(secret);
    ByteBuffer.wrap(secret).asIntBuffer().get(keys);
  }

  /** The digest of an array, which must not change after. */
  public Digest of(float[] values) {
    return known.computeIfAbsent(values, array -> digest(MemorySegment.ofArray(values)));
  }

  /** The digest of an array, which must not change after. */
  public Digest of(int[] values) {
    return known.computeIfAbsent(values, array -> digest(MemorySegment.ofArray(values)));
  }

  private Digest digest(MemorySegment values) {
    int words = Math.toIntExact(values.byteSize() / Integer.BYTES);
    int pieces = Math.ceilDiv(words, WORDS);
    ByteBuffer sums = ByteBuffer.allocate(Long.BYTES * (1 + PASSES * pieces));
    sums.putLong(words);
    for (int from = 0; from < words; from += WORDS) {
      int count = Math.min(WORDS, words - from);
      MemorySegment.copy(values, ValueLayout.JAVA_INT_UNALIGNED, 4L * from, piece, 0, count);
      Arrays.fill(piece, count, WORDS, 0);
      for (int pass = 0; pass < PASSES; pass++) {
        sums.putLong(sum(pass));
      }
    }
    ByteBuffer digest = ByteBuffer.wrap(Fingerprint.sha256().digest(sums.array()));
    return new Digest(digest.getLong(), digest.getLong());
  }

  private long sum(int pass) {
    int second = PAIRS + PASSES - 1 + pass;
    long sum = 0;
    for (int i = 0; i < PAIRS; i++) {
      long a = (piece[i] + keys[pass + i]) & LOW;
      long b = (piece[PAIRS + i] + keys[second + i]) & LOW;
      sum += a * b;
    }
    return sum;
  }
}
