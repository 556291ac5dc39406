package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.cpu.CpuDevice;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Small buffers in large ones keep what they hold, whatever comes and goes beside them. */
class PoolTest {
  private final ScarceDevice device = new ScarceDevice(CpuDevice.open(1));

  @AfterEach
  void close() {
    assertEquals(0, device.buffers());
    device.close();
  }

  @Test
  void eachHoldsItsOwn() {
    Random random = new Random(1);
    Map<Buffer, float[]> here = new HashMap<>();
    try (Pool pool = new Pool(device)) {
      for (int i = 0; i < 5000; i++) {
        float[] values = new float[1 + random.nextInt(3) * random.nextInt(900)];
        values[values.length - 1] = i;
        values[0] = -i;
        Buffer buffer = pool.allocate(4L * values.length);
        assertEquals(0, buffer.address() % 64);
        assertEquals(4L * values.length, buffer.bytes());
        buffer.set(values);
        here.put(buffer, values);
        if (here.size() > 300) {
          Buffer goes = here.keySet().iterator().next();
          here.remove(goes);
          goes.close();
          goes.close(); // which does nothing any more
        }
      }
      here.forEach((buffer, values) -> assertArrayEquals(values, buffer.toFloats(values.length)));
      assertTrue(device.buffers() < 40, device.buffers() + " blocks");
      here.keySet().forEach(Buffer::close);
      assertEquals(0, device.buffers(), "all places were given back");
    }
  }

  @Test
  void placesFollowOneAnotherAndServeAgain() {
    try (Pool pool = new Pool(device)) {
      List<Buffer> first = new ArrayList<>();
      for (int i = 0; i < 8; i++) {
        first.add(pool.allocate(4 * 48));
        assertEquals(first.getFirst().address() + 4L * 48 * i, first.get(i).address());
      }
      Buffer stays = pool.allocate(1);
      MemorySegment three = MemorySegment.ofArray(new float[] {1, 2, 3});
      MemorySegment two = MemorySegment.ofArray(new float[] {4, 5});
      first.getFirst().copyFrom(List.of(three, two));
      assertArrayEquals(new float[] {1, 2, 3, 4, 5}, first.getFirst().toFloats(5));
      assertThrows(IndexOutOfBoundsException.class, () -> stays.copyFrom(List.of(three, two)));
      first.forEach(Buffer::close);
      for (Buffer before : first) {
        assertEquals(before.address(), pool.allocate(4 * 48).address());
      }
      assertEquals(1, device.buffers());
    }
  }

  @Test
  void blocksGrowWithWhatIsHeldAndLeaveMemoryToOthers() {
    try (Pool pool = new Pool(device)) {
      pool.allocate(1);
      assertEquals(64 << 10, device.bytes());
      pool.allocate(1 << 20);
      assertEquals(
          (64 << 10) + (1 << 20) + 64, device.bytes(), "one larger than a block has its own");
      long before = device.bytes();
      for (int i = 0; i < 50; i++) {
        pool.allocate(16 << 10);
      }
      assertEquals(2 * before, device.bytes(), "as much again as there was");
    }
    device.claimFree(0);
    try (Pool pool = new Pool(device)) {
      pool.allocate(100);
      assertEquals(128 + 64, device.bytes(), "no more than is asked for");
    }
  }

  /** A card may allocate so, and refuses a copy over the border. */
  @Test
  void placesOfTwoBlocksDoNotFollowOneAnother() {
    Buffer all = device.allocate(8 << 20);
    long[] end = {all.address()};
    Device adjoining =
        new ForwardingDevice(device) {
          @Override
          public Buffer allocate(long bytes) {
            Buffer next = all.slice(end[0] - all.address(), bytes);
            end[0] += bytes;
            return next;
          }
        };
    try (Pool pool = new Pool(adjoining)) {
      Buffer last = pool.allocate(16 << 10);
      int borders = 0;
      for (int i = 0; i < 200; i++) {
        Buffer next = pool.allocate(16 << 10);
        boolean follows = last.address() + last.bytes() == next.address();
        borders += follows ? 0 : 1;
        last = next;
      }
      assertTrue(borders >= 4, borders + " borders: blocks are of 64 KiB, and then twice as large");
    }
    all.close();
  }

  @Test
  void nothingIsLeftWhereMemoryIsShort() {
    int allocations =
        device.assertNothingLeaks(
            () -> {
              try (Pool pool = new Pool(device)) {
                pool.allocate(40 << 10);
                pool.allocate(40 << 10);
              }
            });
    assertEquals(2, allocations);
  }
}
