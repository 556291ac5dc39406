package dev.halter.bench;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.tuning.TimedSteps;
import dev.halter.weights.ModelConfig;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Locale;

/**
 * {@code halter tune} on a model of random weights: tokens a second through whole steps, forward,
 * backward and AdamW, over lines of one length. Every figure is of the model that it was started with;
 * its name, {@code tune:HEADS:TOKENS:LENGTH}, says of which.
 *
 * <pre>{@code
 * java -Dhalter.native=target/native -cp bench/target/benchmarks.jar \
 *     dev.halter.bench.TuneFigures MODEL DEVICE DTYPE HEADS TOKENS LENGTH RUNS
 * }</pre>
 */
public final class TuneFigures {
  private TuneFigures() {}

  public static void main(String[] args) throws IOException {
    ModelConfig config = ModelConfig.read(Path.of(args[0]));
    DType type = DType.valueOf(args[2].toUpperCase(Locale.ROOT));
    try (Device device = Devices.open(args[1], 0, true);
        TimedSteps steps =
            new TimedSteps(
                device,
                config,
                BenchModel.random(config, type),
                type,
                Integer.parseInt(args[3]),
                Integer.parseInt(args[4]),
                Integer.parseInt(args[5]))) {
      steps.step();
      Device.Memory memory = device.memory();
      String facts =
          "\"unit\":\"tokens/s\",\"engine\":\"halter\",\"device\":\"%s\",\"dtype\":\"%s\",\"used_bytes\":%d"
              .formatted(
                  device.description(),
                  args[2],
                  memory.total() - memory.free());
      Turns.take(Integer.parseInt(args[6]), facts, figure -> steps.step());
    }
  }
}
