package dev.halter.device;

import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;
import java.util.Deque;

/**
 * Buffers, and what else must be closed, that end together: the last first. As FFM's {@code Arena}:
 *
 * <pre>{@code
 * try (Scope scope = device.scope()) {
 *   Buffer in = scope.of(1f, 2f);
 *   Buffer out = scope.allocate(8);
 *   …
 * }
 * }</pre>
 *
 * <p>A short-lived scope stands in a {@code try}, so that what was allocated before an allocation
 * that fails is freed. A long-lived object holds one and closes it; its constructor ends with
 *
 * <pre>{@code
 * } catch (RuntimeException | Error e) {
 *   scope.closeAfter(e);
 *   throw e;
 * }
 * }</pre>
 *
 * <p>The parts of such an object are given its scope, live as long, and have nothing to close.
 * Belongs to one thread at a time, as its device.
 */
public final class Scope implements AutoCloseable {
  private final Device device;
  private final Deque<AutoCloseable> held = new ArrayDeque<>();
  private boolean closed;

  /** An empty one, see {@link Device#scope}. */
  Scope(Device device) {
    this.device = device;
  }

  public Device device() {
    return device;
  }

  /** As {@link Device#allocate}; closing the buffer before the scope frees it early. */
  public Buffer allocate(long bytes) {
    return add(device.allocate(bytes));
  }

  /** As {@link Device#upload}. */
  public Buffer upload(MemorySegment host) {
    return add(device.upload(host));
  }

  /** A buffer of these values, with room for one where there are none. */
  public Buffer of(int... values) {
    Buffer buffer = allocate(4L * Math.max(1, values.length));
    buffer.set(values);
    return buffer;
  }

  /** A buffer of these values, with room for one where there are none. */
  public Buffer of(float... values) {
    Buffer buffer = allocate(4L * Math.max(1, values.length));
    buffer.set(values);
    return buffer;
  }

  /**
   * Takes over something that is closed when its turn comes.
   *
   * @return {@code resource}
   * @throws IllegalStateException if the scope is closed; {@code resource} is closed then too
   */
  public <T extends AutoCloseable> T add(T resource) {
    held.addLast(resource);
    if (closed) {
      IllegalStateException late = new IllegalStateException("the scope is closed");
      closeAfter(late);
      throw late;
    }
    return resource;
  }

  /** Closes the scope because of {@code failure}, to which is added what fails on the way. */
  public void closeAfter(Throwable failure) {
    closeAll(failure);
  }

  /** Frees everything, the last first, also where something fails meanwhile; then throws that. */
  @Override
  public void close() {
    switch (closeAll(null)) {
      case null -> {}
      case RuntimeException e -> throw e;
      case Error e -> throw e;
      case Throwable e -> throw new DeviceException("not all could be closed: " + e, e);
    }
  }

  /** Returns {@code failure}, or else the first that there is, with what failed after it. */
  private Throwable closeAll(Throwable failure) {
    closed = true;
    while (!held.isEmpty()) {
      try {
        held.removeLast().close();
      } catch (Exception | Error e) {
        if (failure == null) {
          failure = e;
        } else if (failure != e) {
          failure.addSuppressed(e);
        }
      }
    }
    return failure;
  }
}
