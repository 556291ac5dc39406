package dev.halter.neurons;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.TestDevices;
import dev.halter.model.Values;
import dev.halter.neurons.NeuronMap.Decode;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class NeuronVectorsTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";
  private static final int ROWS = 3;
  private static final float EPS = 1e-5f;

  /** Vectors and norms, end to end. */
  private static float[] run(
      Device device, DType from, DType to, Decode decode, int d, float[] w, float[] gain) {
    try (Buffer in = Values.buffer(device, from, w);
        Buffer gains = Values.buffer(device, DType.F32, gain);
        Buffer out = device.allocate((long) w.length * to.bytes());
        Buffer norms = device.allocate(4L * ROWS)) {
      String kernel = ("neuron_vectors_" + from + "_" + to).toLowerCase(Locale.ROOT);
      device.launch(
          device.kernel(kernel),
          Grid.of(ROWS),
          64,
          0,
          out,
          norms,
          in,
          gains,
          d,
          EPS,
          decode.number());
      float[] result = Arrays.copyOf(Values.read(out, to, w.length), w.length + ROWS);
      System.arraycopy(norms.toFloats(ROWS), 0, result, w.length, ROWS);
      return result;
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void everyDecodingAgreesWithDoubleArithmetic(Device device) {
    for (int d : new int[] {1, 31, 33, 257, 1023}) {
      float[] gain = Values.random(DType.F32, d, 9);
      for (DType from : List.of(DType.F32, DType.F16, DType.BF16)) {
        float[] w = Values.random(from, ROWS * d, d);
        Arrays.fill(w, d, 2 * d, 0); // a vector of norm 0
        for (DType to : List.of(DType.F32, DType.BF16)) {
          for (Decode decode : Decode.values()) {
            float[] actual = run(device, from, to, decode, d, w, gain);
            double allowed = to == DType.F32 ? 1e-6 : 1 / 256.0;
            for (int row = 0; row < ROWS; row++) {
              double squares = 0;
              for (int i = 0; i < d; i++) {
                squares += (double) w[row * d + i] * w[row * d + i];
              }
              double norm = Math.sqrt(squares);
              assertEquals(norm, actual[ROWS * d + row], 1e-6 * norm);
              for (int i = 0; i < d; i++) {
                double x = w[row * d + i];
                double expected =
                    switch (decode) {
                      case RAW -> x;
                      case UNIT -> norm == 0 ? 0 : x / norm;
                      case NORM -> x / Math.sqrt(squares / d + EPS) * gain[i];
                    };
                boolean exact = decode == Decode.RAW && (to == DType.F32 || to == from);
                assertEquals(
                    expected, actual[row * d + i], exact ? 0 : allowed * Math.abs(expected));
              }
            }
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void normsAloneLeaveNoVectors(Device device) {
    try (Buffer in = Values.buffer(device, DType.F32, new float[] {3, 4, 5, 12});
        Buffer norms = device.allocate(8)) {
      device.launch(
          device.kernel("neuron_vectors_f32_f32"),
          Grid.of(2),
          32,
          0,
          null,
          norms,
          in,
          null,
          2,
          EPS,
          Decode.RAW.number());
      assertArrayEquals(new float[] {5, 13}, norms.toFloats(2));
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void columnsBecomeRows(Device device) {
    for (int rows : new int[] {1, 31, 33, 65}) {
      for (int columns : new int[] {1, 32, 47}) {
        int stride = columns + 5;
        for (DType type : List.of(DType.F32, DType.BF16)) {
          float[] values = Values.random(type, rows * stride, rows);
          try (Buffer in = Values.buffer(device, type, values);
              Buffer out = device.allocate((long) rows * columns * type.bytes())) {
            device.launch(
                device.kernel(type == DType.F32 ? "transpose_32" : "transpose_16"),
                Grid.of((columns + 31) / 32, (rows + 31) / 32),
                64,
                0,
                out,
                in.slice(2L * type.bytes()),
                (long) stride,
                rows,
                columns);
            float[] turned = Values.read(out, type, rows * columns);
            for (int row = 0; row < rows; row++) {
              for (int column = 0; column < columns; column++) {
                assertEquals(values[row * stride + 2 + column], turned[column * rows + row]);
              }
            }
          }
        }
      }
    }
  }

  @Test
  void schedulesAgreeBitByBit() {
    float[] w = Values.random(DType.F32, ROWS * 257, 1);
    float[] gain = Values.random(DType.F32, 257, 2);
    TestDevices.assertSchedulesAgree(
        device -> run(device, DType.F32, DType.BF16, Decode.NORM, 257, w, gain));
    TestDevices.assertSchedulesAgree(
        device -> {
          try (Buffer in = Values.buffer(device, DType.F32, w);
              Buffer out = device.allocate(4L * w.length)) {
            device.launch(
                device.kernel("transpose_32"), Grid.of(9, 1), 64, 0, out, in, 257L, ROWS, 257);
            return out.toFloats(w.length);
          }
        });
  }
}
