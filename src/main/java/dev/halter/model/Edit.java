package dev.halter.model;

import dev.halter.weights.ModelConfig;

/**
 * One change of a model's activations at one site, made at the tokens of a request that a plan
 * names. The factories take a site's TransformerLens name:
 *
 * {@snippet file="dev/halter/snippets/ModelSnippetsTest.java" region="edits"}
 *
 * <p>An edit is made for no model in particular. Whether a model has its layer, neurons and heads
 * and a vector its width is checked when a request that uses it is submitted, and is an {@link
 * IllegalArgumentException} there. Arrays are kept as they are given and must not change after.
 */
public sealed interface Edit {
  /** Where it acts. */
  Site site();

  /** What it is called in plan files and reports: {@code neuron_clamp}, {@code add}, … */
  String op();

  /**
   * The same edit at a strength: where this one makes x to e(x), x becomes x + strength · (e(x) −
   * x). 0 leaves x as it is, 1 is this edit, 0.5 goes half the way, 2 twice as far. Strengths of
   * strengths multiply.
   */
  Edit scaled(double strength);

  /**
   * Checks that a model has all that the edit names.
   *
   * @throws IllegalArgumentException naming what it has not, and the range that it has
   */
  default void requireOf(ModelConfig config) {
    site().requireOf(config);
  }

  /**
   * Sets a neuron to a value.
   *
   * @param site {@code blocks.L.mlp.hook_pre} (gate), {@code hook_pre_linear} (up) or {@code
   *     hook_post} (their product)
   */
  static Edit clamp(String site, int neuron, double value) {
    return clamp(Site.of(site), neuron, value);
  }

  /** As {@link #clamp(String, int, double)}, at a site that is at hand. */
  static Edit clamp(Site site, int neuron, double value) {
    return new Neurons(site, new int[] {neuron}, 0, (float) value, (float) value);
  }

  /** Keeps neurons from {@code min} to {@code max}; either may be infinite. */
  static Edit clampRange(String site, double min, double max, int... neurons) {
    return new Neurons(Site.of(site), neurons, 1, (float) min, (float) max);
  }

  /** Multiplies neurons. */
  static Edit scaleNeurons(String site, double scale, int... neurons) {
    return new Neurons(
        Site.of(site), neurons, (float) scale, Float.NEGATIVE_INFINITY, Float.POSITIVE_INFINITY);
  }

  /** Multiplies heads' outputs z at {@code blocks.L.attn.hook_z}; 0 knocks them out. */
  static Edit scaleHeads(String site, double scale, int... heads) {
    return new Heads(Site.of(site), heads, (float) scale);
  }

  /**
   * Adds {@code scale · vector}.
   *
   * @param site one of width d_model, such as {@code blocks.L.hook_resid_post}
   * @param vector [d_model], taken as it is
   */
  static Edit add(String site, float[] vector, double scale) {
    return new Add(Site.of(site), vector, (float) scale);
  }

  /**
   * Removes the component along a vector.
   *
   * @param site one of width d_model
   * @param vector [d_model], of any length but 0
   */
  static Edit ablate(String site, float[] vector) {
    return new Ablate(Site.of(site), unit(vector));
  }

  /** Keeps the component along a vector, x·v/‖v‖, from {@code min} to {@code max}. */
  static Edit clampProjection(String site, float[] vector, double min, double max) {
    return new Project(Site.of(site), unit(vector), (float) min, (float) max);
  }

  /**
   * A vector's direction.
   *
   * @throws IllegalArgumentException if all of it is 0
   */
  static float[] unit(float[] vector) {
    double squares = 0;
    for (float value : vector) {
      squares += (double) value * value;
    }
    if (squares == 0) {
      throw new IllegalArgumentException("a vector of zeros has no direction");
    }
    float[] unit = new float[vector.length];
    for (int i = 0; i < unit.length; i++) {
      unit[i] = (float) (vector[i] / Math.sqrt(squares));
    }
    return unit;
  }

  /** x += scale · vector; vector [d_model] as it is. */
  record Add(Site site, float[] vector, float scale) implements Edit {
    public Add {
      Check.residual("add", site);
      Check.number("scale", scale);
    }

    @Override
    public String op() {
      return "add";
    }

    @Override
    public Edit scaled(double strength) {
      return new Add(site, vector, (float) (strength * scale));
    }

    @Override
    public void requireOf(ModelConfig config) {
      site.requireOf(config);
      Check.width(site, vector, config);
    }
  }

  /** x −= strength · (x·u) u, along the unit vector u [d_model]. */
  record Ablate(Site site, float[] unit, float strength) implements Edit {
    public Ablate {
      Check.residual("ablate", site);
      Check.number("strength", strength);
    }

    /** All of the component goes. */
    public Ablate(Site site, float[] unit) {
      this(site, unit, 1);
    }

    @Override
    public String op() {
      return "ablate";
    }

    @Override
    public Edit scaled(double more) {
      return new Ablate(site, unit, (float) (more * strength));
    }

    @Override
    public void requireOf(ModelConfig config) {
      site.requireOf(config);
      Check.width(site, unit, config);
    }
  }

  /** x += strength · (clip(p, min, max) − p) u, with p = x·u, along the unit vector u [d_model]. */
  record Project(Site site, float[] unit, float min, float max, float strength) implements Edit {
    public Project {
      Check.residual("project_clamp", site);
      Check.range(min, max);
      Check.number("strength", strength);
    }

    /** The projection is clipped to the whole. */
    public Project(Site site, float[] unit, float min, float max) {
      this(site, unit, min, max, 1);
    }

    @Override
    public String op() {
      return "project_clamp";
    }

    @Override
    public Edit scaled(double more) {
      return new Project(site, unit, min, max, (float) (more * strength));
    }

    @Override
    public void requireOf(ModelConfig config) {
      site.requireOf(config);
      Check.width(site, unit, config);
    }
  }

  /** z of the listed heads times scale. */
  record Heads(Site site, int[] heads, float scale) implements Edit {
    public Heads {
      Check.heads("head_scale", site);
      Check.number("scale", scale);
    }

    @Override
    public String op() {
      return "head_scale";
    }

    @Override
    public Edit scaled(double strength) {
      return new Heads(site, heads, (float) (1 + strength * (scale - 1.0)));
    }

    @Override
    public void requireOf(ModelConfig config) {
      site.requireOf(config);
      Check.indices("head", site, heads, config.nHeads());
    }
  }

  /**
   * z of each listed head becomes A z + b.
   *
   * @param a [heads, d_head, d_head], row-major
   * @param b [heads, d_head]
   * @param fingerprint of the model that the maps were made for
   */
  record HeadAffine(Site site, int[] heads, float[] a, float[] b, String fingerprint)
      implements Edit {
    public HeadAffine {
      Check.heads("head_affine", site);
    }

    @Override
    public String op() {
      return "head_affine";
    }

    /** (1 − strength) z + strength · (A z + b). */
    @Override
    public Edit scaled(double strength) {
      int d = heads.length == 0 ? 0 : b.length / heads.length;
      return new HeadAffine(
          site, heads, scaledMaps(a, d, strength), scaledOffsets(b, strength), fingerprint);
    }

    /** (1 − strength) I + strength · A of each map A [d, d]. */
    public static float[] scaledMaps(float[] a, int d, double strength) {
      float[] scaled = new float[a.length];
      for (int i = 0; i < a.length; i++) {
        boolean diagonal = i / d % d == i % d;
        scaled[i] = (float) (strength * a[i] + (diagonal ? 1 - strength : 0));
      }
      return scaled;
    }

    /** strength · b. */
    public static float[] scaledOffsets(float[] b, double strength) {
      float[] scaled = new float[b.length];
      for (int i = 0; i < b.length; i++) {
        scaled[i] = (float) (strength * b[i]);
      }
      return scaled;
    }

    @Override
    public void requireOf(ModelConfig config) {
      site.requireOf(config);
      Check.indices("head", site, heads, config.nHeads());
      int dHead = config.dHead();
      if (a.length != heads.length * dHead * dHead || b.length != heads.length * dHead) {
        throw new IllegalArgumentException(
            "maps of %d heads at %s have %,d and %,d values, but this model's d_head is %d"
                .formatted(heads.length, site, a.length, b.length, dHead));
      }
    }
  }

  /**
   * The listed neurons go from their value towards clip(scale · value, min, max), all the way at
   * strength 1; min = max sets them.
   */
  record Neurons(Site site, int[] neurons, float scale, float min, float max, float strength)
      implements Edit {
    public Neurons {
      Check.neurons("neuron_clamp", site);
      Check.number("scale", scale);
      Check.range(min, max);
      Check.number("strength", strength);
    }

    /** All the way. */
    public Neurons(Site site, int[] neurons, float scale, float min, float max) {
      this(site, neurons, scale, min, max, 1);
    }

    @Override
    public String op() {
      return "neuron_clamp";
    }

    @Override
    public Edit scaled(double more) {
      return new Neurons(site, neurons, scale, min, max, (float) (more * strength));
    }

    @Override
    public void requireOf(ModelConfig config) {
      site.requireOf(config);
      Check.indices("neuron", site, neurons, config.dMlp());
    }
  }

  /** One that the host queues between kernels, see {@link QueuedEdit}. */
  non-sealed interface Queued extends Edit {
    /** Floats of its report; the first is the squared norm of the change. */
    int reported();

    /** Edits of several slots at one site are made in one go where this is equal. */
    Object together();
  }
}
