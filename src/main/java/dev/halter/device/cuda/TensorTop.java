package dev.halter.device.cuda;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.device.TiledTop;
import dev.halter.device.Top;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Locale;
import java.util.Random;

/**
 * {@link Device#multiplyTop} in one kernel on tensor cores, whose epilogue keeps what is wanted, so
 * that no part of the product goes to memory: {@code multiply_top_sm80.cu} or {@code
 * multiply_top_sm90.cu}, and {@code merge_top.cu} for the parts of a row.
 *
 * <p>Before its first product it makes a small one in this way and by tiles; if they differ, that
 * is an error. Rows are taken some tens of thousands at a time, which bounds the buffer for the
 * parts. A row's bits depend neither on the other rows nor on how the work is cut up.
 */
final class TensorTop implements AutoCloseable {
  /** The kernels there are. */
  enum Form {
    /** mma.sync, for compute capability 8.0 and later. */
    SM80,
    /** wgmma and the tensor copy engine, for 9.0 only. */
    SM90
  }

  /** Most entries of a list that fit into shared memory beside the tiles. */
  static final int MAX_KEPT = 32;

  /** Columns that have a log-sum-exp of their own: SEGMENT in top_epilogue.cuh. */
  private static final int SEGMENT = 2048;

  /** Rows of a block in both kernels, and of a tensor map's box. */
  private static final int ROWS = 128;

  /** Waves of blocks that are launched at a time. */
  private static final int WAVES = 4;

  private static final int MAP_BYTES = 128;

  /** Describes matrices to the tensor copy engine: {@link Device#encodeTensorMap}. */
  interface TensorMaps {
    void encode(MemorySegment map, Matrix matrix, int rows, int columns, int boxRows);
  }

  private final Device device;
  private final TensorMaps maps;
  private final Form form;
  private final int blocks; // that run at the same time
  private final int sharedLimit;
  private final int sharedOfMultiprocessor;
  private final MemorySegment xMap;
  private final MemorySegment wMap;
  private Buffer parts;
  private boolean checked;

  /**
   * @param multiprocessors of the card
   * @param sharedLimit bytes of shared memory that a block may have
   * @param sharedOfMultiprocessor bytes of shared memory that the blocks of one share
   */
  TensorTop(
      Device device,
      TensorMaps maps,
      Form form,
      int multiprocessors,
      int sharedLimit,
      int sharedOfMultiprocessor,
      Arena arena) {
    this.device = device;
    this.maps = maps;
    this.form = form;
    this.blocks = multiprocessors;
    this.sharedLimit = sharedLimit;
    this.sharedOfMultiprocessor = sharedOfMultiprocessor;
    this.xMap = arena.allocate(MAP_BYTES, 64);
    this.wMap = arena.allocate(MAP_BYTES, 64);
  }

  /** Whether the kernels are made for this product; else {@link TiledTop} is. */
  static boolean takes(int k, Matrix x, Matrix w, Top top) {
    return top.kept() <= MAX_KEPT && k % 8 == 0 && fits(x) && fits(w);
  }

  private static boolean fits(Matrix matrix) {
    return matrix.type() == DType.BF16
        && matrix.rowStride() % 8 == 0
        && matrix.buffer().address() % 16 == 0;
  }

  /** Which kernel, for people. */
  String description() {
    return "multiply_top_" + form.name().toLowerCase(Locale.ROOT);
  }

  /** See {@link Device#multiplyTop}; {@link #takes} must hold. */
  void multiply(int m, int n, int k, Matrix x, Matrix w, Top top) {
    top.require(m, n, k, x, w);
    if (!checked) {
      check();
      checked = true; // not before: a kernel that failed must fail again
    }
    int atOnce = WAVES * blocks * ROWS;
    for (int row = 0; row < m; row += atOnce) {
      multiplyRows(Math.min(atOnce, m - row), n, k, x.from(row), w, top.from(row));
    }
  }

  /** Without the check, and as many rows as there are. */
  void multiplyRows(int m, int n, int k, Matrix x, Matrix w, Top top) {
    multiplyRows(m, n, k, x, w, top, cut(m, n, k, top));
  }

  /** The same with w cut up in this way. */
  void multiplyRows(int m, int n, int k, Matrix x, Matrix w, Top top, Cut cut) {
    int segments = ceil(n, SEGMENT);
    int splits = cut.splits(segments);
    long lists = (long) m * top.sign().lists();
    long listBytes = 4 * lists * top.kept();
    long sumBytes = top.logSum() == null ? 0 : 8 * lists * segments;
    Buffer ids = room(2L * splits * listBytes + sumBytes);
    Buffer values = ids.slice(splits * listBytes);
    Buffer sums = top.logSum() == null ? null : ids.slice(2L * splits * listBytes);
    if (cut.first() == 0) {
      launch(m, n, k, x, w, top, new Part(ids, values, sums, null, null, 0, cut.each(), splits));
    } else {
      launch(m, n, k, x, w, top, new Part(ids, values, sums, null, null, 0, cut.first(), 1));
      Buffer otherIds = ids.slice(listBytes);
      Buffer otherValues = values.slice(listBytes);
      launch(
          m,
          n,
          k,
          x,
          w,
          top,
          new Part(otherIds, otherValues, sums, ids, values, cut.first(), cut.each(), splits - 1));
    }
    device.launch(
        device.kernel("merge_top"),
        8 * lists * splits * top.kept() + (sums == null ? 0 : 8 * lists * segments),
        Grid.of(Math.toIntExact(lists)),
        32,
        0,
        top.ids(),
        top.values(),
        top.logSum(),
        ids,
        values,
        sums,
        splits,
        segments,
        top.kept(),
        top.sign() == Top.Sign.ABSOLUTE ? 1 : 0);
  }

  /**
   * What one launch makes: lists of {@code splits} times {@code each} segments from {@code first}
   * on.
   */
  private record Part(
      Buffer ids,
      Buffer values,
      Buffer sums,
      Buffer seedIds,
      Buffer seedValues,
      int first,
      int each,
      int splits) {}

  private void launch(int m, int n, int k, Matrix x, Matrix w, Top top, Part part) {
    String kind =
        switch (top.sign()) {
          case PLUS, MINUS -> "signed";
          case BOTH -> "both";
          case ABSOLUTE -> "absolute";
        };
    Kernel kernel = device.kernel(description() + "_" + kind);
    int negative = top.sign() == Top.Sign.MINUS ? 1 : 0;
    int tiles = ceil(m, ROWS);
    int listRoom = 8 * ROWS * top.sign().lists() * top.kept();
    switch (form) {
      case SM80 -> {
        int stageBytes = 16_384;
        int stages = stages(stageBytes, listRoom);
        device.launch(
            kernel,
            Grid.of(tiles * part.splits),
            128,
            stages * stageBytes + listRoom,
            part.ids,
            part.values,
            part.sums,
            part.seedIds,
            part.seedValues,
            x.buffer(),
            x.rowStride(),
            w.buffer(),
            w.rowStride(),
            m,
            n,
            k,
            top.kept(),
            negative,
            part.first,
            part.each,
            part.splits,
            stages);
      }
      case SM90 -> {
        maps.encode(xMap, x, m, k, ROWS);
        maps.encode(wMap, w, n, k, ROWS);
        int stageBytes = 49_152 + 16; // with its two barriers
        int alignment = 1024;
        int stages = Math.min(4, (sharedLimit - alignment - listRoom) / stageBytes);
        int clusters = Math.min(blocks / 2, ceil(tiles, 2) * part.splits);
        device.launch(
            kernel,
            Grid.of(2 * clusters),
            384,
            alignment + stages * stageBytes + listRoom,
            part.ids,
            part.values,
            part.sums,
            part.seedIds,
            part.seedValues,
            xMap,
            wMap,
            m,
            n,
            k,
            top.kept(),
            negative,
            part.first,
            part.each,
            part.splits,
            stages);
      }
    }
  }

  /**
   * Three stages where then two blocks share a multiprocessor, else as many as one block can have.
   */
  private int stages(int stageBytes, int listRoom) {
    int reserved = 1024; // by the driver, for each block
    if (2 * (3 * stageBytes + listRoom + reserved) <= sharedOfMultiprocessor) {
      return 3;
    }
    return Math.min(4, (sharedLimit - listRoom) / stageBytes);
  }

  /**
   * How w's segments are shared out: to splits of {@code each}, of which every one has lists of its
   * own; and if {@code first} is not 0, so many segments before them to a split that is made before
   * the others. What is not above its last entries is no result of the whole row, so the others
   * need not keep it.
   */
  record Cut(int first, int each) {
    int splits(int segments) {
      return Math.min(first, 1) + ceil(segments - first, each);
    }
  }

  /** How much longer a product takes when no two blocks share what they read: a guess. */
  private static final double UNSHARED = 0.2;

  /**
   * What inserting an entry into a list of each row takes, as a part of a segment's product, times
   * k: for 10 entries of both signs 0.15 of a segment of k = 4,096, or 400 clocks for each entry of
   * a warp's rows and what it makes the other warps wait.
   */
  private static final double INSERTION = 30;

  /**
   * The cut that should take the least time, counted in products of a segment: w is cut so that the
   * blocks end together and share in L2 what they read, and seldom enough that few lists begin
   * anew.
   *
   * <p>{@code P} row tiles and {@code Q} splits under way at a time read {@code P + Q} parts for
   * {@code P Q} blocks: least where they are about equal. A list of g segments, or 8 g tiles, sees
   * {@code kept (1 + ln(8 g))} insertions; with seeds of f segments {@code kept g / f}, or {@code
   * kept (1 + ln(g / f))} if g is larger. Nine splits of the map of Llama-3.1-8B see 450 insertions
   * a row, of 10 kept; nine segments and six splits after them 113, and one split of all 72.
   */
  Cut cut(int m, int n, int k, Top top) {
    int segments = ceil(n, SEGMENT);
    int pair = form == Form.SM90 ? 2 : 1;
    int items = ceil(m, pair * ROWS);
    double insertions = INSERTION / k * top.kept() * top.sign().lists();
    // With few rows a wave of splits fills the card, and a launch more would only cost.
    int mostFirst = 4L * items < blocks / pair ? 0 : Math.min(32, segments - 1);
    Cut best = null;
    double least = Double.POSITIVE_INFINITY;
    for (int first = 0; first <= mostFirst; first++) {
      double before =
          first == 0 ? 0 : time(items, 1, first, insertions * (1 + Math.log(8 * first)));
      for (int each = segments - first; each >= 1; each--) {
        double lists =
            first == 0
                ? 1 + Math.log(8 * each)
                : each <= first ? (double) each / first : 1 + Math.log((double) each / first);
        double time = before + time(items, ceil(segments - first, each), each, insertions * lists);
        if (time < least) {
          least = time;
          best = new Cut(first, each);
        }
      }
    }
    return best;
  }

  private double time(int items, int splits, int each, double lists) {
    int workers = Math.max(1, form == Form.SM90 ? blocks / 2 : blocks);
    int columns = Math.min(splits, workers);
    int rows = Math.min(items, ceil(workers, columns));
    double unshared = UNSHARED * (rows + columns) / workers;
    return ceil(items * splits, workers) * (each * (1 + unshared) + lists);
  }

  private static int ceil(int a, int b) {
    return Math.ceilDiv(a, b);
  }

  private Buffer room(long bytes) {
    if (parts == null || parts.bytes() < bytes) {
      close();
      parts = device.allocate(bytes);
    }
    return parts;
  }

  /** Compares with {@link TiledTop}. Numbers of a few bits make all sums exact, and ties likely. */
  private void check() {
    int m = ROWS + 5;
    int n = SEGMENT + 300;
    int k = 72;
    Random random = new Random(1);
    short[] numbers = new short[Math.max(m, n) * k];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = (short) (Float.floatToRawIntBits((random.nextInt(7) - 3) / 4f) >>> 16);
    }
    try (Scope scope = device.scope()) {
      Buffer both = scope.allocate(2L * numbers.length);
      Top mine = Top.allocate(scope, Top.Sign.BOTH, 10, m);
      Top tiled = Top.allocate(scope, Top.Sign.BOTH, 10, m);
      TiledTop tiles = scope.add(new TiledTop(device));
      both.copyFrom(MemorySegment.ofArray(numbers));
      Matrix factor = new Matrix(both, DType.BF16, k);
      multiplyRows(m, n, k, factor, factor, mine, new Cut(1, 1));
      tiles.multiply(m, n, k, factor, factor, tiled);
      int entries = 2 * m * 10;
      boolean same =
          Arrays.equals(mine.ids().toInts(entries), tiled.ids().toInts(entries))
              && Arrays.equals(mine.values().toFloats(entries), tiled.values().toFloats(entries));
      float[] logs = mine.logSumExp(m);
      float[] expected = tiled.logSumExp(m);
      for (int i = 0; i < logs.length; i++) {
        same &= Math.abs(logs[i] - expected[i]) <= 1e-4f;
      }
      if (!same) {
        throw new DeviceException(
            "kernel %s and cuBLAS differ on %s: run with -Dhalter.multiply_top=cublas, and report this"
                .formatted(description(), device.description()));
      }
    }
  }

  @Override
  public void close() {
    if (parts != null) {
      parts.close();
      parts = null;
    }
  }
}
