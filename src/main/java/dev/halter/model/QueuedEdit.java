package dev.halter.model;

import dev.halter.device.Buffer;

/**
 * An edit of the residual stream that the host queues when a step comes to its site: one that is
 * more than one kernel, or one that comes after such an edit. At {@code hook_resid_post} the kernel
 * that makes the site has made its own edits before; at {@code hook_resid_pre} it makes them after,
 * in the norm that follows. {@link SteeringTable} leaves to it only what comes first and last
 * there.
 *
 * <p>Steps of decode are recorded and replayed, so what is queued may depend on nothing but device
 * buffers and the arguments of {@link #enqueue}.
 */
public interface QueuedEdit {
  /** Whether tokens of a slot need more work than others: see {@link Rows#solves}. */
  boolean solves(int slot);

  /** Queues the edit of a step's rows. */
  void enqueue(Rows rows);

  /**
   * The rows of a step.
   *
   * @param x [count, d] f32: the residual stream
   * @param count tokens
   * @param d d_model
   * @param slots I32 [count] steering slot of each token
   * @param sequences I32 [count] sequence of each token in the KV cache
   * @param changes [count, stride] f32: the step's report, zeros where nothing has been written
   * @param solves whether a token is of a slot that {@link QueuedEdit#solves}
   */
  record Rows(
      Buffer x,
      int count,
      int d,
      Buffer slots,
      Buffer sequences,
      Buffer changes,
      int stride,
      boolean solves) {}
}
