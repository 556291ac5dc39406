package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import java.util.List;
import java.util.Locale;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Kernels {@code read_rows} and {@code read_changes} of {@code gather.cu}. */
class ReadRowsTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final int ROWS = 5;
  private static final int[] INDEX = {4, 0, 2};

  @ParameterizedTest
  @MethodSource(DEVICES)
  void rowsAreReadAsTheyAre(Device device) {
    for (DType type : List.of(DType.F32, DType.F16, DType.BF16)) {
      for (int width : Values.SIZES) {
        int stride = width + 3;
        float[] in = Values.random(type, ROWS * stride, width);
        in[INDEX[1] * stride] = -0.0f;
        in[INDEX[2] * stride] = Float.NaN;
        float[] before = Values.random(DType.F32, INDEX.length * width, width + 1);
        float[] read = launch(device, "read_rows", type, in, before, width);
        for (int i = 0; i < read.length; i++) {
          String place = "%s, width %d, %d".formatted(type, width, i);
          assertEquals(in[INDEX[i / width] * stride + i % width], read[i], place);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void changesAreWhatRowsHaveMovedByFromWhatWasRead(Device device) {
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (int width : Values.SIZES) {
        int stride = width + 3;
        float[] in = Values.random(type, ROWS * stride, width);
        float[] before = Values.random(DType.F32, INDEX.length * width, width + 1);
        float[] changes = launch(device, "read_changes", type, in, before, width);
        for (int i = 0; i < changes.length; i++) {
          String place = "%s, width %d, %d".formatted(type, width, i);
          float row = in[INDEX[i / width] * stride + i % width];
          assertEquals(row - before[i], changes[i], place);
        }
      }
    }
  }

  private static float[] launch(
      Device device, String kernel, DType type, float[] in, float[] before, int width) {
    try (Buffer from = Values.buffer(device, type, in);
        Buffer to = Values.buffer(device, DType.F32, before);
        Buffer index = Values.buffer(device, INDEX)) {
      device.launch(
          device.kernel(kernel + "_" + type.name().toLowerCase(Locale.ROOT)),
          Grid.of(INDEX.length),
          64,
          0,
          to,
          from,
          index,
          width,
          (long) in.length / ROWS);
      return to.toFloats(before.length);
    }
  }
}
