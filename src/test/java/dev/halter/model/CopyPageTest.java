package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.TestDevices;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Kernel {@code copy_page}. */
class CopyPageTest {
  private static final int ARRAYS = 6;
  private static final int PAGES = 5;

  private static float[] values(int array, int packs) {
    return Values.random(DType.F32, PAGES * 4 * packs, array);
  }

  /** All arrays, one after another, when page 1 has been copied to page 3. */
  private static float[] run(Device device, int packs) {
    List<Buffer> arrays = new ArrayList<>();
    for (int array = 0; array < ARRAYS; array++) {
      arrays.add(Values.buffer(device, DType.F32, values(array, packs)));
    }
    long[] starts = arrays.stream().mapToLong(Buffer::address).toArray();
    float[] all = new float[0];
    try (Buffer addresses = device.allocate(8L * ARRAYS)) {
      addresses.copyFrom(MemorySegment.ofArray(starts));
      device.launch(device.kernel("copy_page"), Grid.of(ARRAYS, 3), 64, 0, addresses, packs, 1, 3);
      for (Buffer array : arrays) {
        all = AttentionRun.concatenate(all, array.toFloats(PAGES * 4 * packs));
        array.close();
      }
    }
    return all;
  }

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void onePageOfEachArrayBecomesAnother(Device device) {
    for (int packs : Values.SIZES) {
      float[] expected = new float[0];
      for (int array = 0; array < ARRAYS; array++) {
        float[] values = values(array, packs);
        System.arraycopy(values, 4 * packs, values, 3 * 4 * packs, 4 * packs);
        expected = AttentionRun.concatenate(expected, values);
      }
      assertArrayEquals(expected, run(device, packs), packs + " packs");
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    TestDevices.assertSchedulesAgree(device -> run(device, 257));
  }
}
