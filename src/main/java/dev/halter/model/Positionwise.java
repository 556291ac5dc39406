package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.model.LlamaWeights.Layer;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.weights.ModelConfig;
import java.util.List;

/**
 * What a model does to each row of the residual stream by itself: norms, projections, MLPs,
 * residual adds. {@link Llama} runs it on the tokens of a step; whoever has rows of a residual
 * stream from elsewhere runs it on those. A row's result depends on that row alone, as far as the
 * device's products do.
 */
public final class Positionwise {
  /** Hears of each site on the way. */
  interface Observer {
    Observer NONE =
        new Observer() {
          @Override
          public boolean acts(Site.Kind kind, int layer) {
            return false;
          }

          @Override
          public void at(
              Site.Kind kind, int layer, Buffer values, DType type, int stride, int column) {}
        };

    /** Whether what {@link #at} does at a site has to be done before what follows there. */
    boolean acts(Site.Kind kind, int layer);

    /** {@code values}: rows of {@code stride} elements, of which the site's begin at column. */
    void at(Site.Kind kind, int layer, Buffer values, DType type, int stride, int column);
  }

  /**
   * How a step's rows are treated on the way.
   *
   * @param decodes whether they are a step of decode, whose products may be those of few rows; all
   *     others are the device's, so that rows of one prompt have theirs from one place
   * @param kept where the norms' insides go for the observer, or null
   */
  record Pass(int count, boolean decodes, Edits edits, Norms kept, Observer observer) {
    static Pass plain(int count) {
      return new Pass(count, false, Edits.NONE, null, Observer.NONE);
    }
  }

  /** The insides of a norm: scale [rows] f32 and normalized [rows, d_model] f32. */
  record Norms(Buffer scale, Buffer normalized) {}

  private final Device device;
  private final ModelConfig config;
  private final LlamaWeights weights;
  private final DType type;
  private final int rows;

  // Scratch, by what it holds.
  final Buffer h; // [rows, d_model] T: normalised input of a branch
  final Buffer y; // [rows, d_model] T: what a branch adds
  private final Buffer gateUp; // [rows, 2 d_mlp] T: gate left, up right
  private final Buffer post; // [rows, d_mlp] T

  private final RowKernels kernels;
  private final FewRows fewRows; // null: all products are the device's
  private final Kernel biasNorm;

  /**
   * For up to {@code rows} rows at a time, with the weights and the types of {@code model}; its
   * buffers live in {@code scope}.
   */
  public Positionwise(Scope scope, Llama model, int rows) {
    this(scope, model.config(), model.weights(), model.type(), rows);
  }

  Positionwise(Scope scope, ModelConfig config, LlamaWeights weights, DType type, int rows) {
    this.device = scope.device();
    this.config = config;
    this.weights = weights;
    this.type = type;
    this.rows = rows;
    long elements = (long) type.bytes() * rows;
    this.h = scope.allocate(elements * config.dModel());
    this.y = scope.allocate(elements * config.dModel());
    this.gateUp = scope.allocate(elements * 2 * config.dMlp());
    this.post = scope.allocate(elements * config.dMlp());
    this.kernels = new RowKernels(device, type);
    this.fewRows = FewRows.of(device, config, weights, type);
    this.biasNorm = device.kernel("qkv_bias_norm_f32");
  }

  /** Bytes that an instance for {@code rows} rows takes of the device's memory. */
  public static long bytes(ModelConfig config, DType type, int rows) {
    return rows * (2L * config.dModel() + 3L * config.dMlp()) * type.bytes();
  }

  /** Most rows at a time. */
  public int rows() {
    return rows;
  }

  /**
   * {@code x += MLP(norm(x))}, in place, for the first {@code count} rows of x [_, d_model] f32.
   */
  public void mlp(int layer, Buffer x, int count) {
    Pass pass = Pass.plain(count);
    mlp(layer, input(ln2(layer), x, pass), x, pass, null);
  }

  /**
   * What one head gets of rows of x before a block: its queries, or the keys or values of a KV
   * head, before rotation, as at {@code hook_q}, {@code hook_k} and {@code hook_v}.
   *
   * @param site one of these three kinds
   * @param head query head for hook_q, else KV head
   * @param out [count, d_head] f32, written
   */
  public void headInput(Site site, int head, Buffer x, int count, Buffer out) {
    Layer w = weights.layer(site.layer());
    int before =
        switch (site.kind()) {
          case Q -> 0;
          case K -> config.nHeads();
          case V -> config.nHeads() + config.nKvHeads();
          default -> throw new IllegalArgumentException(site + " is no input of a head");
        };
    int dHead = config.dHead();
    int row = (before + head) * dHead; // of q, k and v one above another
    Buffer bias = w.qkvBias() == null ? null : w.qkvBias().slice(4L * row, 4L * dHead);
    norm(of(w.ln1()), x, Pass.plain(count));
    for (Linear part : w.qkv()) {
      if (row >= 0 && row < part.out()) {
        device.multiply(
            count,
            dHead,
            part.in(),
            new Matrix(h, type, config.dModel()),
            part.matrix().from(row),
            new Matrix(out, DType.F32, dHead));
      }
      row -= part.out();
    }
    Buffer gain =
        site.kind() == Site.Kind.Q ? w.qNorm() : site.kind() == Site.Kind.K ? w.kNorm() : null;
    if (bias != null || gain != null) {
      // As the only query head of its own.
      float eps = (float) config.rmsNormEps();
      long bytes = 8L * count * dHead;
      device.launch(
          biasNorm, bytes, Grid.of(count), 128, 512, out, bias, gain, gain, eps, 1, 0, dHead);
    }
  }

  /** The final norm of rows of x, in the activations' type: what the LM head multiplies. */
  public Matrix finalNorm(Buffer x, int count) {
    norm(finalNorm(), x, Pass.plain(count));
    return new Matrix(h, type, config.dModel());
  }

  /** What a block's q, k and v projections multiply, of rows of x before the block. */
  public Matrix attentionInput(int layer, Buffer x, int count) {
    norm(of(weights.layer(layer).ln1()), x, Pass.plain(count));
    return new Matrix(h, type, config.dModel());
  }

  /** What a block's gate and up projections multiply, of rows of x between attention and MLP. */
  public Matrix mlpInput(int layer, Buffer x, int count) {
    norm(ln2(layer), x, Pass.plain(count));
    return new Matrix(h, type, config.dModel());
  }

  /** The norm before attention, which makes the edits of hook_resid_pre. */
  RowKernels.Norm ln1(int layer) {
    return new RowKernels.Norm(
        weights.layer(layer).ln1(),
        (float) config.rmsNormEps(),
        new RowKernels.SteeredAt(Site.Kind.RESID_PRE, layer));
  }

  /** The norm before the MLP. */
  RowKernels.Norm ln2(int layer) {
    return of(weights.layer(layer).ln2());
  }

  /** The norm before the LM head. */
  RowKernels.Norm finalNorm() {
    return of(weights.finalNorm());
  }

  private RowKernels.Norm of(Buffer gain) {
    return new RowKernels.Norm(gain, (float) config.rmsNormEps(), null);
  }

  /** h = norm(x). */
  void norm(RowKernels.Norm norm, Buffer x, Pass pass) {
    kernels.norm(norm, h, x, pass.count, config.dModel(), pass.kept, pass.edits);
  }

  /** The products of few rows, or null where they are not for a pass. */
  FewRows fewRows(Pass pass) {
    return fewRows != null && pass.decodes && fewRows.takes(pass.count) ? fewRows : null;
  }

  /**
   * What a branch multiplies: h = norm(x), or where the product can take it along, x with its norm.
   */
  FewRows.Input input(RowKernels.Norm norm, Buffer x, Pass pass) {
    RowKernels.SteeredAt at = norm.input();
    boolean edited = at != null && pass.edits.ranges(at.kind(), at.layer()) != null;
    if (fewRows(pass) != null && pass.kept == null && !edited) {
      return new FewRows.Input(x, norm);
    }
    norm(norm, x, pass);
    return normed();
  }

  /** h, where it is the norm already. */
  FewRows.Input normed() {
    return new FewRows.Input(h, null);
  }

  /**
   * {@code x += MLP(in)}.
   *
   * @param in {@link #ln2} of x
   * @param next as for {@link #project}
   * @return likewise
   */
  boolean mlp(int layer, FewRows.Input in, Buffer x, Pass pass, RowKernels.Norm next) {
    Layer w = weights.layer(layer);
    int f = config.dMlp();
    Observer observer = pass.observer;
    if (pass.kept != null) {
      observer.at(Site.Kind.LN2_SCALE, layer, pass.kept.scale, DType.F32, 1, 0);
      observer.at(
          Site.Kind.LN2_NORMALIZED, layer, pass.kept.normalized, DType.F32, config.dModel(), 0);
    }
    FewRows few = fewRows(pass);
    boolean apart =
        few == null
            || observer.acts(Site.Kind.PRE, layer)
            || observer.acts(Site.Kind.PRE_LINEAR, layer)
            || pass.edits.ranges(Site.Kind.POST, layer) != null;
    if (apart) {
      product(in, w.gateUp(), gateUp, 2 * f, pass);
      kernels.gatedMlp(
          post,
          gateUp,
          gateUp.slice((long) f * type.bytes()),
          w.gateBias(),
          w.upBias(),
          pass.count,
          f,
          2L * f,
          pass.edits,
          layer);
    } else {
      few.gate(post, in, w.gateUp().getFirst(), w.gateBias(), w.upBias(), pass.count);
    }
    observer.at(Site.Kind.PRE, layer, gateUp, type, 2 * f, 0);
    observer.at(Site.Kind.PRE_LINEAR, layer, gateUp, type, 2 * f, f);
    observer.at(Site.Kind.POST, layer, post, type, f, 0);
    return project(
        post,
        w.down(),
        w.downBias(),
        x,
        Site.Kind.MLP_OUT,
        Site.Kind.RESID_POST,
        layer,
        pass,
        next);
  }

  /** out[:, part by part] = in · Wᵀ for projections that share their input. */
  void product(FewRows.Input in, List<Linear> parts, Buffer out, int outWidth, Pass pass) {
    FewRows few = fewRows(pass);
    if (few != null) {
      few.multiply(out, in, parts.getFirst(), pass.count); // the only one
      return;
    }
    long column = 0;
    for (Linear part : parts) {
      device.multiply(
          pass.count,
          part.out(),
          part.in(),
          new Matrix(in.x(), type, part.in()),
          part.matrix(),
          new Matrix(out.slice(column * type.bytes()), type, outWidth));
      column += part.out();
    }
  }

  /**
   * {@code x += in · Wᵀ + bias}: what a branch adds. Where few rows are not edited or looked at, in
   * one launch, with the bits of those that it takes else.
   *
   * @param bias may be null
   * @param next as for {@link #add}
   * @return whether h is the result of {@code next}
   */
  boolean project(
      Buffer in,
      Linear w,
      Buffer bias,
      Buffer x,
      Site.Kind branch,
      Site.Kind residual,
      int layer,
      Pass pass,
      RowKernels.Norm next) {
    FewRows few = fewRows(pass);
    boolean apart =
        few == null
            || pass.observer.acts(branch, layer)
            || pass.observer.acts(residual, layer)
            || pass.edits.ranges(branch, layer) != null
            || pass.edits.ranges(residual, layer) != null;
    if (!apart) {
      few.add(x, in, w, bias, pass.count);
      return false;
    }
    product(new FewRows.Input(in, null), List.of(w), y, config.dModel(), pass);
    return add(x, bias, branch, residual, layer, pass, next);
  }

  /**
   * x += y + bias, with the edits of both sites. Where nobody acts between, in the same launch h =
   * norm(x), bit for bit as {@link #norm} would have it.
   *
   * @param bias may be null
   * @param next the norm that reads x next, or null
   * @return whether h is that norm's result
   */
  private boolean add(
      Buffer x,
      Buffer bias,
      Site.Kind branch,
      Site.Kind residual,
      int layer,
      Pass pass,
      RowKernels.Norm next) {
    Observer observer = pass.observer;
    int d = config.dModel();
    RowKernels.SteeredAt branchSite = new RowKernels.SteeredAt(branch, layer);
    RowKernels.SteeredAt residualSite = new RowKernels.SteeredAt(residual, layer);
    boolean fused =
        next != null
            && pass.kept == null
            && !observer.acts(branch, layer)
            && !observer.acts(residual, layer)
            && (next.input() == null || !observer.acts(next.input().kind(), next.input().layer()));
    if (fused) {
      kernels.addAndNorm(x, y, bias, pass.count, d, pass.edits, branchSite, residualSite, next, h);
    } else {
      kernels.add(x, y, bias, pass.count, d, pass.edits, branchSite, residualSite);
    }
    observer.at(branch, layer, y, type, d, 0);
    observer.at(residual, layer, x, DType.F32, d, 0);
    return fused;
  }
}
