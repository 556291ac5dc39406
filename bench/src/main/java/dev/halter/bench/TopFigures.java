package dev.halter.bench;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.device.Matrix;
import dev.halter.device.Top;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Locale;

/**
 * Halter's side of {@code bench/top}: seconds that {@link Device#multiplyTop} takes for the best
 * entries (and, but for magnitudes, the log-sum-exp) of each row, with factors on the device.
 *
 * <p>A figure {@code top:FORM} opens the device with {@code -Dhalter.multiply_top=FORM}; on the CPU
 * the only one is {@code top:cpu}.
 *
 * <pre>{@code
 * java -Dhalter.native=target/native -cp bench/target/benchmarks.jar dev.halter.bench.TopFigures \
 *     DEVICE DTYPE ROWS CALLS COLUMNS D_MODEL KEPT SIGN THREADS RUNS
 * }</pre>
 */
public final class TopFigures implements AutoCloseable {
  private final int rows;
  private final int calls;
  private final int columns;
  private final int dModel;
  private final Device device;
  private final DType type;
  private final Buffer x;
  private final Buffer w;
  private final Top top;

  private TopFigures(
      Device device, DType type, int rows, int calls, int columns, int dModel, int kept, Top.Sign sign) {
    this.device = device;
    this.type = type;
    this.rows = rows;
    this.calls = calls;
    this.columns = columns;
    this.dModel = dModel;
    this.x = random(rows);
    this.w = random(columns);
    this.top = Top.allocate(device.scope(), sign, kept, rows);
  }

  public static void main(String[] args) throws IOException {
    int[] sizes = new int[5];
    for (int i = 0; i < sizes.length; i++) {
      sizes[i] = Integer.parseInt(args[2 + i]);
    }
    TopFigures[] open = {null};
    String[] form = {""};
    Turns.take(
        Integer.parseInt(args[9]),
        "\"unit\":\"s\",\"engine\":\"halter\"",
        figure -> {
          String asked = figure.substring(figure.indexOf(':') + 1);
          if (!asked.equals(form[0])) {
            if (open[0] != null) {
              open[0].close();
            }
            if (args[0].equals("cuda")) {
              System.setProperty("halter.multiply_top", asked);
            }
            Device device = Devices.open(args[0], Integer.parseInt(args[8]), true);
            DType type = DType.valueOf(args[1].toUpperCase(Locale.ROOT));
            Top.Sign sign = Top.Sign.valueOf(args[7].toUpperCase(Locale.ROOT));
            open[0] =
                new TopFigures(
                    device, type, sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sign);
            form[0] = asked;
          }
          return open[0].seconds();
        });
    if (open[0] != null) {
      open[0].close();
    }
  }

  private double seconds() {
    Matrix left = new Matrix(x, type, dModel);
    Matrix right = new Matrix(w, type, dModel);
    device.synchronize();
    long start = System.nanoTime();
    for (int call = 0; call < calls; call++) {
      device.multiplyTop(rows, columns, dModel, left, right, top);
    }
    device.synchronize();
    return (System.nanoTime() - start) / 1e9;
  }

  /** Rows of uniform numbers below 1/16, whose entries are of the size of real ones. */
  private Buffer random(int count) {
    Buffer buffer = device.allocate((long) count * dModel * type.bytes());
    try (Arena arena = Arena.ofConfined()) {
      int block = Math.min(count, 4096);
      long bytes = (long) block * dModel * type.bytes();
      MemorySegment host = arena.allocate(bytes);
      long state = count;
      for (int row = 0; row < count; row += block) {
        int height = Math.min(block, count - row);
        for (long i = 0; i < (long) height * dModel; i++) {
          state = state * 6364136223846793005L + 1442695040888963407L;
          float value = (state >> 40) * 0x1p-27f;
          if (type == DType.F32) {
            host.setAtIndex(ValueLayout.JAVA_FLOAT, i, value);
          } else {
            int bits = Float.floatToRawIntBits(value) >>> 16;
            host.setAtIndex(ValueLayout.JAVA_SHORT, i, (short) bits);
          }
        }
        long filled = (long) height * dModel * type.bytes();
        buffer
            .slice((long) row * dModel * type.bytes(), filled)
            .copyFrom(host.asSlice(0, filled));
      }
    }
    return buffer;
  }

  @Override
  public void close() {
    device.close(); // and all that is on it
  }
}
