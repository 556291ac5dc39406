package dev.halter.model;

import dev.halter.device.Buffer;
import java.lang.foreign.MemorySegment;

/**
 * What follows the logits in a step: its table goes up in one copy with the step's own, and a
 * recorded step holds its launches.
 */
public interface Tail {
  /** Nothing. */
  Tail NONE =
      new Tail() {
        @Override
        public MemorySegment table() {
          return MemorySegment.NULL;
        }

        @Override
        public Object shape() {
          return NONE;
        }

        @Override
        public void queue(Buffer logits, Buffer table) {}
      };

  /** What its launches are to find on the device in the next step; asked first. */
  MemorySegment table();

  /**
   * What its launches depend on besides what device buffers hold. Steps of equal shapes may replay
   * each other's launches.
   */
  Object shape();

  /** Queues its launches over logits [outputs, vocabulary] f32 and its table. */
  void queue(Buffer logits, Buffer table);
}
