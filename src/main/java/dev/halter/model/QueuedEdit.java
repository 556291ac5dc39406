package dev.halter.model;

import dev.halter.device.Buffer;

/**
 * An edit of the residual stream that is more than one kernel: the host queues it when a step comes
 * to its site. At {@code hook_resid_post} it comes after the edits that kernels make there by
 * themselves; at {@code hook_resid_pre} before them, since those are part of the norm that follows.
 *
 * <p>Steps of decode are recorded and replayed, so what is queued may depend on nothing but device
 * buffers and the arguments of {@link #enqueue}.
 */
public interface QueuedEdit {
  /** {@code hook_resid_pre} or {@code hook_resid_post} of a block. */
  Site site();

  /** Whether tokens of a slot need more work than others: see {@link Rows#solves}. */
  boolean solves(int slot);

  /** Queues the edit of a step's rows. */
  void enqueue(Rows rows);

  /**
   * The rows of a step.
   *
   * @param x [count, d_model] f32: the residual stream
   * @param count tokens
   * @param slots I32 [count] steering slot of each token
   * @param sequences I32 [count] sequence of each token in the KV cache
   * @param changes [count, stride] f32: the step's report, zeros where nothing has been written
   * @param solves whether a token is of a slot that {@link QueuedEdit#solves}
   */
  record Rows(
      Buffer x,
      int count,
      Buffer slots,
      Buffer sequences,
      Buffer changes,
      int stride,
      boolean solves) {}
}
