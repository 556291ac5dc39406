package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import java.util.Locale;

/**
 * Launches the kernels that take rows of activations by themselves: {@code rmsnorm.cu}, {@code
 * residual.cu} and {@code gated_mlp.cu}, with as many threads as rows have packs of 16 bytes.
 */
final class RowKernels {
  private static final int WARP = 32;

  /** Most threads of a block that has a row to itself. */
  private static final int ROW_BLOCK = 512;

  /** Threads of a block that has a part of a row: a row of a real model's MLP fills many SMs. */
  private static final int PART_BLOCK = 128;

  /** Rows from which a GPU has no room for all of them at once. */
  private static final int MANY_ROWS = 256;

  /** Neurons of a part on the CPU, where parts only balance the threads. */
  private static final int CPU_PART = 4096;

  /** Sites at which a kernel edits its rows. */
  record SteeredAt(Site.Kind kind, int layer) {}

  /** An RMSNorm: its gain [d_model] f32, epsilon, and the site of its input or null. */
  record Norm(Buffer gain, float eps, SteeredAt input) {}

  private final Device device;
  private final DType type;
  private final Kernel rmsnorm;
  private final Kernel residualAdd;
  private final Kernel addRmsnorm;
  private final Kernel addRmsnormRows;
  private final int manyRows; // from which on it takes its place
  private final Kernel gatedMlp;
  private final Kernel gatedMlpEdit;

  /**
   * Finds the kernels.
   *
   * @param type of the activations: f32 or bf16
   */
  RowKernels(Device device, DType type) {
    this(device, type, device.kind().equals("cuda") ? MANY_ROWS : Integer.MAX_VALUE);
  }

  RowKernels(Device device, DType type, int manyRows) {
    this.manyRows = manyRows;
    this.device = device;
    this.type = type;
    String suffix = "_" + type.name().toLowerCase(Locale.ROOT);
    this.rmsnorm = device.kernel("rmsnorm" + suffix);
    this.residualAdd = device.kernel("residual_add" + suffix);
    this.addRmsnorm = device.kernel("add_rmsnorm" + suffix);
    this.addRmsnormRows = device.kernel("add_rmsnorm_rows" + suffix);
    this.gatedMlp = device.kernel("gated_mlp" + suffix);
    this.gatedMlpEdit = device.kernel("gated_mlp_edit" + suffix);
  }

  /**
   * out = RMSNorm(x), with the edits of its input made to x first.
   *
   * @param kept where the norm's insides go, or null
   */
  void norm(
      Norm norm, Buffer out, Buffer x, int rows, int d, Positionwise.Norms kept, Edits edits) {
    device.launch(
        rmsnorm,
        (long) rows * d * (4 + type.bytes()) + (kept == null ? 0 : 4L * rows * (1 + d)),
        Grid.of(rows),
        rowBlock(d),
        0,
        out,
        x,
        norm.gain,
        d,
        norm.eps,
        kept == null ? null : kept.scale(),
        kept == null ? null : kept.normalized(),
        ranges(edits, norm.input),
        edits.steering());
  }

  /** x += y + bias, with the edits of both sites; {@code bias} may be null. */
  void add(
      Buffer x,
      Buffer y,
      Buffer bias,
      int rows,
      int d,
      Edits edits,
      SteeredAt branch,
      SteeredAt residual) {
    int rewritten = bias == null ? 0 : type.bytes();
    device.launch(
        residualAdd,
        (long) rows * d * (8 + type.bytes() + rewritten),
        Grid.of(rows),
        rowBlock(d),
        0,
        x,
        y,
        bias,
        d,
        ranges(edits, branch),
        ranges(edits, residual),
        edits.steering());
  }

  /** {@link #add}, then {@link #norm} of x. */
  void addAndNorm(
      Buffer x,
      Buffer y,
      Buffer bias,
      int rows,
      int d,
      Edits edits,
      SteeredAt branch,
      SteeredAt residual,
      Norm norm,
      Buffer out) {
    int bytes = bias == null ? 8 + 2 * type.bytes() : 12 + 3 * type.bytes(); // of an element
    Buffer residualRanges = ranges(edits, residual);
    device.launch(
        rows < manyRows || residualRanges != null ? addRmsnorm : addRmsnormRows,
        (long) rows * d * bytes,
        Grid.of(rows),
        rowBlock(d),
        0,
        out,
        x,
        y,
        bias,
        norm.gain,
        d,
        norm.eps,
        ranges(edits, branch),
        ranges(edits, norm.input),
        residualRanges,
        edits.steering());
  }

  /**
   * out = silu(gate) · up, each with its bias or null, with the edits of the layer's neurons.
   *
   * @param out [rows, dMlp]
   * @param gate [rows, dMlp] with row stride {@code stride}, likewise {@code up}
   */
  void gatedMlp(
      Buffer out,
      Buffer gate,
      Buffer up,
      Buffer gateBias,
      Buffer upBias,
      int rows,
      int dMlp,
      long stride,
      Edits edits,
      int layer) {
    int part = device.kind().equals("cuda") ? PART_BLOCK * pack() : CPU_PART;
    int arrays = 3 + (gateBias == null ? 0 : 1) + (upBias == null ? 0 : 1);
    device.launch(
        gatedMlp,
        (long) rows * dMlp * arrays * type.bytes(),
        Grid.of(rows, Math.ceilDiv(dMlp, part)),
        PART_BLOCK,
        0,
        out,
        gate,
        up,
        gateBias,
        upBias,
        dMlp,
        stride);
    Buffer ranges = edits.ranges(Site.Kind.POST, layer);
    if (ranges != null) {
      device.launch(
          gatedMlpEdit,
          Grid.of(rows),
          PART_BLOCK,
          0,
          out,
          gate,
          up,
          dMlp,
          stride,
          ranges,
          edits.steering());
    }
  }

  private static Buffer ranges(Edits edits, SteeredAt at) {
    return at == null ? null : edits.ranges(at.kind, at.layer);
  }

  private int rowBlock(int d) {
    return rowBlock(d, type);
  }

  /** A thread for each pack of a row, as far as a block goes: a norm's bits depend on it. */
  static int rowBlock(int d, DType type) {
    int warps = Math.ceilDiv(Math.ceilDiv(d, 16 / type.bytes()), WARP);
    return WARP * Math.min(warps, ROW_BLOCK / WARP);
  }

  /** Elements in 16 bytes. */
  private int pack() {
    return 16 / type.bytes();
  }
}
