package dev.halter.gradients;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Scope;
import dev.halter.gradients.BackwardKernels.Heads;
import dev.halter.model.SiteHook;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/**
 * Gradients through attention over whole sequences that lie end to end: {@code
 * attention_backward.cu}. Gradients of q, k and v are f32, what they are made from has T, the
 * activations' type.
 */
public final class AttentionBackward {
  private static final int BLOCK = 128;

  /** Packed query rows, or keys, of a block; the kernels' constant. */
  private static final int OWN = 32;

  /** Rows that a block works on beside its own at once; the kernels' constant. */
  private static final int OTHERS = 16;

  private final Device device;
  private final Heads heads;
  private final float scale;
  private final Buffer delta; // [rows, heads]
  private final Buffer tiles; // [2 rows, 4]: of queries, then of keys
  private final Kernel queries;
  private final Kernel keys;
  private int queryTiles;
  private int keyTiles;

  /**
   * Prepares the kernels for up to {@code rows} rows.
   *
   * @param scope that its buffers live in
   */
  public AttentionBackward(Scope scope, Heads heads, DType type, int rows) {
    String suffix = "_" + type.name().toLowerCase(Locale.ROOT);
    this.device = scope.device();
    this.heads = heads;
    this.scale = (float) (1 / Math.sqrt(heads.dHead()));
    this.delta = scope.allocate(4L * rows * heads.heads());
    this.tiles = scope.allocate(32L * rows);
    this.queries = device.kernel("attention_backward_q" + suffix);
    this.keys = device.kernel("attention_backward_kv" + suffix);
  }

  /** Takes the lengths of the sequences of a batch, in the order in which they lie there. */
  public void prepare(int... lengths) {
    int most = Math.max(1, OWN / (heads.heads() / heads.kvHeads()));
    List<int[]> ofQueries = new ArrayList<>();
    List<int[]> ofKeys = new ArrayList<>();
    int first = 0;
    for (int length : lengths) {
      for (int i = 0; i < length; i += most) {
        ofQueries.add(new int[] {first + i, Math.min(most, length - i), first, 0});
      }
      for (int i = 0; i < length; i += OWN) {
        ofKeys.add(new int[] {first + i, Math.min(OWN, length - i), first + length, 0});
      }
      first += length;
    }
    queryTiles = ofQueries.size();
    keyTiles = ofKeys.size();
    ofQueries.addAll(ofKeys);
    tiles.set(ofQueries.stream().flatMapToInt(Arrays::stream).toArray());
  }

  /**
   * Writes the gradient of qkv, after the rotation.
   *
   * @param dqkv [rows, width] f32, written
   * @param qkv [rows, width] T, rotated
   * @param z [rows, heads d_head] T
   * @param dz its gradient
   * @param logSum [rows, heads] f32, as the forward pass left it ({@link SiteHook#logSums})
   * @param window 0 for none
   */
  public void run(Buffer dqkv, Buffer qkv, Buffer z, Buffer dz, Buffer logSum, int window) {
    int shared = 4 * (2 * OWN * heads.dHead() + 2 * OTHERS * OWN + 3 * OWN);
    device.launch(
        queries,
        Grid.of(queryTiles, heads.kvHeads()),
        BLOCK,
        shared,
        dqkv,
        qkv,
        z,
        dz,
        logSum,
        delta,
        tiles,
        heads.heads(),
        heads.kvHeads(),
        heads.dHead(),
        scale,
        window);
    device.launch(
        keys,
        Grid.of(keyTiles, heads.kvHeads()),
        BLOCK,
        shared,
        dqkv,
        qkv,
        dz,
        logSum,
        delta,
        tiles.slice(16L * queryTiles),
        heads.heads(),
        heads.kvHeads(),
        heads.dHead(),
        scale,
        window);
  }
}
