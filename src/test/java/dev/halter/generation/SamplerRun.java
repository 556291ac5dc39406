package dev.halter.generation;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import java.lang.foreign.MemorySegment;

/** What a step does with its sampler, without a model before it. */
final class SamplerRun {
  private SamplerRun() {}

  /** Has made what was asked for over logits [·, vocabulary]. */
  static void over(Device device, Sampler sampler, Buffer logits) {
    MemorySegment table = sampler.table();
    try (Buffer uploaded = device.allocate(table.byteSize())) {
      uploaded.copyFrom(table);
      sampler.queue(logits, uploaded);
      sampler.read();
    }
  }
}
