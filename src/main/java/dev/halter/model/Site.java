package dev.halter.model;

import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

/**
 * A place in the forward pass whose activations can be read and, for some kinds, edited. Names are
 * TransformerLens hook names: {@code blocks.12.attn.hook_z}, {@code blocks.3.mlp.hook_pre_linear},
 * {@code ln_final.hook_scale}.
 *
 * @param layer the block, or -1 for a site outside the blocks
 */
public record Site(Kind kind, int layer) {

  /** What a site holds; per token unless said. */
  public enum Kind {
    /** Token embedding, [d_model]. */
    EMBED("hook_embed"),
    /** Residual stream before the block, [d_model]. */
    RESID_PRE("blocks.%d.hook_resid_pre"),
    /** Denominator of the norm before attention, sqrt(mean(x²) + eps), [1]. */
    LN1_SCALE("blocks.%d.ln1.hook_scale"),
    /** Normalised input of attention before the gain, [d_model]. */
    LN1_NORMALIZED("blocks.%d.ln1.hook_normalized"),
    /** Queries before rotation (after bias and QK norm), [n_heads, d_head]. */
    Q("blocks.%d.attn.hook_q"),
    /** Keys before rotation (after bias and QK norm), [n_kv_heads, d_head]. */
    K("blocks.%d.attn.hook_k"),
    /** Values, [n_kv_heads, d_head]. */
    V("blocks.%d.attn.hook_v"),
    /** Queries after rotation, [n_heads, d_head]. */
    ROT_Q("blocks.%d.attn.hook_rot_q"),
    /** Keys after rotation, [n_kv_heads, d_head]. */
    ROT_K("blocks.%d.attn.hook_rot_k"),
    /** Softmax weights, per prompt [n_heads, queries, keys]. */
    PATTERN("blocks.%d.attn.hook_pattern"),
    /** Each head's mix of values, input of o_proj, [n_heads, d_head]. */
    Z("blocks.%d.attn.hook_z"),
    /** What attention adds to the residual stream, [d_model]. */
    ATTN_OUT("blocks.%d.hook_attn_out"),
    /** Residual stream between attention and MLP, [d_model]. */
    RESID_MID("blocks.%d.hook_resid_mid"),
    /** Denominator of the norm before the MLP, [1]. */
    LN2_SCALE("blocks.%d.ln2.hook_scale"),
    /** Normalised input of the MLP before the gain, [d_model]. */
    LN2_NORMALIZED("blocks.%d.ln2.hook_normalized"),
    /** gate_proj output, [d_mlp]. */
    PRE("blocks.%d.mlp.hook_pre"),
    /** up_proj output, [d_mlp]. */
    PRE_LINEAR("blocks.%d.mlp.hook_pre_linear"),
    /** silu(gate) · up, input of down_proj, [d_mlp]. */
    POST("blocks.%d.mlp.hook_post"),
    /** What the MLP adds to the residual stream, [d_model]. */
    MLP_OUT("blocks.%d.hook_mlp_out"),
    /** Residual stream after the block, [d_model]. */
    RESID_POST("blocks.%d.hook_resid_post"),
    /** Denominator of the final norm, [1]. */
    LN_FINAL_SCALE("ln_final.hook_scale"),
    /** Final normalised residual stream before the gain, [d_model]. */
    LN_FINAL_NORMALIZED("ln_final.hook_normalized"),
    /** Logits, [vocabulary]. */
    LOGITS("logits");

    private final String pattern;

    Kind(String pattern) {
      this.pattern = pattern;
    }

    /** Whether every block has one. */
    public boolean perLayer() {
      return pattern.contains("%d");
    }

    /** Whether it lies in the residual stream or adds to it, so that vectors can edit it. */
    public boolean isResidual() {
      return switch (this) {
        case EMBED, RESID_PRE, ATTN_OUT, RESID_MID, MLP_OUT, RESID_POST -> true;
        default -> false;
      };
    }

    /** Whether it is inside a norm: kept only for those who want it. */
    boolean isNorm() {
      return switch (this) {
        case LN1_SCALE, LN1_NORMALIZED, LN2_SCALE, LN2_NORMALIZED -> true;
        case LN_FINAL_SCALE, LN_FINAL_NORMALIZED -> true;
        default -> false;
      };
    }

    /** Whether it has one value for each MLP neuron. */
    public boolean isNeurons() {
      return this == PRE || this == PRE_LINEAR || this == POST;
    }
  }

  private static final Pattern BLOCK = Pattern.compile("blocks\\.(\\d{1,6}|\\*)\\.(.+)");

  public Site {
    if (kind.perLayer() != (layer >= 0)) {
      throw new IllegalArgumentException(kind + " cannot be at layer " + layer);
    }
  }

  /** The site's TransformerLens name. */
  public String name() {
    return kind.perLayer() ? kind.pattern.replace("%d", Integer.toString(layer)) : kind.pattern;
  }

  @Override
  public String toString() {
    return name();
  }

  /** Shape of one token's activation; [n_heads] for a pattern, to which queries and keys come. */
  public int[] shape(ModelConfig config) {
    return switch (kind) {
      case EMBED,
          RESID_PRE,
          LN1_NORMALIZED,
          ATTN_OUT,
          RESID_MID,
          LN2_NORMALIZED,
          MLP_OUT,
          RESID_POST,
          LN_FINAL_NORMALIZED ->
          new int[] {config.dModel()};
      case LN1_SCALE, LN2_SCALE, LN_FINAL_SCALE -> new int[] {1};
      case Q, ROT_Q, Z -> new int[] {config.nHeads(), config.dHead()};
      case K, V, ROT_K -> new int[] {config.nKvHeads(), config.dHead()};
      case PATTERN -> new int[] {config.nHeads()};
      case PRE, PRE_LINEAR, POST -> new int[] {config.dMlp()};
      case LOGITS -> new int[] {config.vocabularySize()};
    };
  }

  /** Values per token: the product of {@link #shape}. */
  public int width(ModelConfig config) {
    int width = 1;
    for (int size : shape(config)) {
      width *= size;
    }
    return width;
  }

  /** Every site of a model, in the order of the forward pass. */
  public static List<Site> all(ModelConfig config) {
    List<Site> sites = new ArrayList<>();
    sites.add(new Site(Kind.EMBED, -1));
    for (int layer = 0; layer < config.nLayers(); layer++) {
      for (Kind kind : Kind.values()) {
        if (kind.perLayer()) {
          sites.add(new Site(kind, layer));
        }
      }
    }
    sites.add(new Site(Kind.LN_FINAL_SCALE, -1));
    sites.add(new Site(Kind.LN_FINAL_NORMALIZED, -1));
    sites.add(new Site(Kind.LOGITS, -1));
    return sites;
  }

  /**
   * The site of a TransformerLens name, of no model in particular.
   *
   * @throws IllegalArgumentException if there is none of that name, naming those that there are
   */
  public static Site of(String name) {
    Matcher block = BLOCK.matcher(name);
    if (!block.matches()) {
      Kind kind = kind(name, name);
      if (kind.perLayer()) {
        throw unknown(name);
      }
      return new Site(kind, -1);
    }
    Kind kind = kind("blocks.%d." + block.group(2), name);
    if (block.group(1).equals("*")) {
      throw new IllegalArgumentException("'" + name + "' is not one site: name a single layer");
    }
    return new Site(kind, Integer.parseInt(block.group(1)));
  }

  /**
   * Checks that a model has the site.
   *
   * @throws IllegalArgumentException naming the layers that it has
   */
  public void requireOf(ModelConfig config) {
    if (layer >= config.nLayers()) {
      throw new IllegalArgumentException(
          "site '%s': there is no layer %d, this model has layers 0 to %d"
              .formatted(name(), layer, config.nLayers() - 1));
    }
  }

  /**
   * The one site of this name in a model.
   *
   * @throws IllegalArgumentException if the model has no such site, naming what it has
   */
  public static Site parse(String name, ModelConfig config) {
    Site site = of(name);
    site.requireOf(config);
    return site;
  }

  /**
   * The sites that a name stands for: one, every layer's for {@code blocks.*.…}, all for {@code
   * all}.
   *
   * @throws IllegalArgumentException if the model has no such site, naming what it has
   */
  public static List<Site> expand(String name, ModelConfig config) {
    if (name.equals("all")) {
      return all(config);
    }
    Matcher block = BLOCK.matcher(name);
    if (block.matches() && block.group(1).equals("*")) {
      Kind kind = kind("blocks.%d." + block.group(2), name);
      return IntStream.range(0, config.nLayers()).mapToObj(at -> new Site(kind, at)).toList();
    }
    return List.of(parse(name, config));
  }

  private static Kind kind(String pattern, String name) {
    return Arrays.stream(Kind.values())
        .filter(candidate -> candidate.pattern.equals(pattern))
        .findFirst()
        .orElseThrow(() -> unknown(name));
  }

  private static IllegalArgumentException unknown(String name) {
    return new IllegalArgumentException(
        "no site '"
            + name
            + "'; sites are "
            + String.join(
                ", ",
                Arrays.stream(Kind.values()).map(k -> k.pattern.replace("%d", "L")).toList()));
  }
}
