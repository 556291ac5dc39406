package dev.halter.generation;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Scope;
import java.lang.foreign.MemorySegment;
import java.util.List;

/** Chooses the next token of each row of logits on the device ({@code cuda-kernels/sample.cu}). */
final class Sampler {
  private static final int BLOCK = 1024;

  private final Device device;
  private final Kernel kernel;
  private final int vocabularySize;
  private final Buffer tokens;
  private final Buffer logProbabilities;
  private final Buffer temperatures;
  private final Buffer topKs;
  private final Buffer topPs;
  private final Buffer keys;

  /** A choice for one row of logits. */
  record Draw(int row, Sampling sampling, int index) {}

  /** Chosen ids and their log probabilities, in the order of the draws. */
  record Choice(int[] tokens, float[] logProbabilities) {}

  /** For up to {@code rows} rows; its buffers live in {@code scope}. */
  Sampler(Scope scope, int vocabularySize, int rows) {
    this.device = scope.device();
    this.vocabularySize = vocabularySize;
    this.kernel = device.kernel("sample");
    this.tokens = scope.allocate(4L * rows);
    this.logProbabilities = scope.allocate(4L * rows);
    this.temperatures = scope.allocate(4L * rows);
    this.topKs = scope.allocate(4L * rows);
    this.topPs = scope.allocate(4L * rows);
    this.keys = scope.allocate(8L * rows);
  }

  /** Passes over a row of logits, as the kernel's contract counts them. */
  private int passes(Sampling sampling) {
    if (sampling.temperature() == 0) {
      return 1;
    }
    boolean cutsByRank = sampling.topK() > 0 && sampling.topK() < vocabularySize;
    return 2 + (cutsByRank ? 3 : 0) + (sampling.topP() < 1 ? 3 : 0);
  }

  /** Draws from rows of logits [·, vocabulary] f32; rows that no draw names are skipped. */
  Choice sample(Buffer logits, int rows, List<Draw> draws) {
    float[] temperature = new float[rows];
    int[] topK = new int[rows];
    float[] topP = new float[rows];
    long[] key = new long[rows];
    long passes = rows; // over a row of logits, see the kernel
    for (Draw draw : draws) {
      Sampling sampling = draw.sampling;
      temperature[draw.row] = sampling.temperature();
      topK[draw.row] = sampling.topK();
      topP[draw.row] = sampling.topP();
      key[draw.row] = sampling.key(draw.index);
      passes += passes(sampling) - 1;
    }
    temperatures.set(temperature);
    topKs.set(topK);
    topPs.set(topP);
    keys.copyFrom(MemorySegment.ofArray(key));
    device.launch(
        kernel,
        4 * passes * vocabularySize,
        Grid.of(rows),
        BLOCK,
        0,
        tokens,
        logProbabilities,
        logits,
        vocabularySize,
        temperatures,
        topKs,
        topPs,
        keys);
    int[] chosen = tokens.toInts(rows);
    float[] probabilities = logProbabilities.toFloats(rows);
    int[] ids = new int[draws.size()];
    float[] logs = new float[draws.size()];
    for (int i = 0; i < ids.length; i++) {
      ids[i] = chosen[draws.get(i).row];
      logs[i] = probabilities[draws.get(i).row];
    }
    return new Choice(ids, logs);
  }
}
