package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Matrix;

/**
 * What a caller does at the sites of a step as it passes them: it queues launches and copies that
 * read a site's rows or overwrite them on the device. {@link SiteReader} is the one that reads.
 *
 * <p>Overwriting takes effect where the site comes before its use: {@code hook_resid_pre}, {@code
 * hook_q}, {@code hook_k}, {@code hook_v}, {@code hook_z}, {@code hook_resid_mid}, {@code
 * hook_resid_post}. What a branch adds ({@code hook_attn_out}, {@code hook_mlp_out}) is shown, with
 * its bias, once it has been added. In a steered step a site is shown after its edits; since the
 * norm that reads {@code hook_resid_pre} makes those of that site, overwriting it comes too late
 * there for attention.
 */
public interface SiteHook {
  /** Whether {@link #at}, or for a pattern {@link #atPattern}, is to be called at a site. */
  boolean wants(Site site);

  /**
   * Called when the step has come to a site.
   *
   * @param values its rows, one for each of the batch (of {@code logits}: one for each output),
   *     with the site's width; f32 for the residual stream, norms and logits, else the activations'
   *     type
   */
  void at(Site site, Matrix values);

  /** Called when the step has come to a {@code hook_pattern}, which is computed for its readers. */
  default void atPattern(Site site, Patterns patterns) {}

  /**
   * Where the log-sum-exp of the scores of each row and head of a layer goes, [rows, n_heads] f32
   * in nats, by which a backward pass makes the softmax again; null, the default, for nowhere. A
   * step asks more than once.
   */
  default Buffer logSums(int layer) {
    return null;
  }

  /** Patterns of a layer. */
  @FunctionalInterface
  interface Patterns {
    /**
     * Queues the patterns of a span's tokens from index {@code from} on.
     *
     * @param out [n_heads, tokens, keys] f32, written; keys = position + length of the span
     */
    void write(Buffer out, Batch.Span span, int from);
  }
}
