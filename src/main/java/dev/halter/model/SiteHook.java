package dev.halter.model;

import dev.halter.device.Matrix;

/**
 * What a caller does at the sites of a step as it passes them: it queues launches and copies that
 * read a site's rows or overwrite them on the device.
 *
 * <p>Overwriting takes effect where the site comes before its use: {@code hook_resid_pre}, {@code
 * hook_q}, {@code hook_k}, {@code hook_v}, {@code hook_z}, {@code hook_resid_mid}, {@code
 * hook_resid_post}. What a branch adds ({@code hook_attn_out}, {@code hook_mlp_out}) is shown, with
 * its bias, once it has been added.
 */
public interface SiteHook {
  /** Whether {@link #at} is to be called at a site. */
  boolean wants(Site site);

  /**
   * Called when the step has come to a site.
   *
   * @param values its rows, one for each of the batch, with the site's width; f32 for the residual
   *     stream, else the activations' type
   */
  void at(Site site, Matrix values);
}
