package dev.halter.bench;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.device.Scope;
import dev.halter.device.Timer;
import dev.halter.model.TimedKernels;
import java.io.IOException;

/**
 * Microseconds that attention over a prompt takes in one layer of Llama-3.1-8B, in bf16.
 *
 * <p>A figure {@code FORM:TOKENS} runs with {@code -Dhalter.attention=FORM}.
 *
 * <pre>{@code
 * java -Dhalter.native=target/native -cp bench/target/benchmarks.jar dev.halter.bench.AttentionFigures \
 *     DEVICE LAUNCHED RUNS
 * }</pre>
 *
 * LAUNCHED: tokens in all for which the kernel is launched again and again in one run.
 */
public final class AttentionFigures {
  private AttentionFigures() {}

  public static void main(String[] args) throws IOException {
    long launched = Long.parseLong(args[1]);
    try (Device device = Devices.open(args[0], 1, true)) {
      Turns.take(
          Integer.parseInt(args[2]),
          "\"unit\":\"us\",\"engine\":\"halter\"",
          figure -> {
            String[] parts = figure.split(":", 2);
            System.setProperty("halter.attention", parts[0]);
            return microseconds(device, Integer.parseInt(parts[1]), launched);
          });
    }
  }

  private static double microseconds(Device device, int tokens, long launched) {
    int launches = (int) Math.max(1, launched / tokens);
    long[] nanoseconds = new long[1];
    try (Scope scope = device.scope();
        Timer timer = device.timer()) {
      Runnable attention = TimedKernels.of(scope, "attention", DType.BF16, tokens);
      attention.run();
      timer.start();
      for (int i = 0; i < launches; i++) {
        attention.run();
      }
      timer.stop(time -> nanoseconds[0] = time);
      timer.finish();
    }
    return nanoseconds[0] / 1e3 / launches;
  }
}
