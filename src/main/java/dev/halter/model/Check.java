package dev.halter.model;

import dev.halter.weights.ModelConfig;
import java.util.BitSet;

/** What is wrong with an edit, in words. */
final class Check {
  private Check() {}

  static void residual(String op, Site site) {
    require(site.kind().isResidual(), op, site, "one of width d_model, such as hook_resid_post");
  }

  static void heads(String op, Site site) {
    require(site.kind() == Site.Kind.Z, op, site, "blocks.L.attn.hook_z");
  }

  static void neurons(String op, Site site) {
    require(
        site.kind().isNeurons(), op, site, "blocks.L.mlp.hook_pre, hook_pre_linear or hook_post");
  }

  private static void require(boolean fits, String op, Site site, String sites) {
    if (!fits) {
      throw new IllegalArgumentException(
          "%s cannot act at %s: its site must be %s".formatted(op, site, sites));
    }
  }

  static void number(String name, float value) {
    if (!Float.isFinite(value)) {
      throw new IllegalArgumentException(name + " is " + value + ", must be a finite number");
    }
  }

  static void range(float min, float max) {
    if (!(min <= max)) {
      throw new IllegalArgumentException("min is " + min + ", must be at most max, " + max);
    }
  }

  static void width(Site site, float[] vector, ModelConfig config) {
    if (vector.length != config.dModel()) {
      throw new IllegalArgumentException(
          "a vector for %s has %,d values, but this model's d_model is %,d"
              .formatted(site, vector.length, config.dModel()));
    }
  }

  /** Distinct indices below {@code count}. */
  static void indices(String name, Site site, int[] indices, int count) {
    BitSet seen = new BitSet();
    for (int index : indices) {
      if (index < 0 || index >= count) {
        throw new IllegalArgumentException(
            "there is no %s %d at %s: this model has 0 to %d"
                .formatted(name, index, site, count - 1));
      }
      if (seen.get(index)) {
        throw new IllegalArgumentException(
            "%s %d at %s is named twice".formatted(name, index, site));
      }
      seen.set(index);
    }
  }
}
