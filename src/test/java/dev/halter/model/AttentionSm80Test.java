package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.model.AttentionRun.Part;
import dev.halter.weights.ModelConfig;
import java.util.Arrays;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The form by mma.sync. */
class AttentionSm80Test extends TensorAttention {
  @Override
  Attention.Form form(Device device, ModelConfig config) {
    return Attention.Form.sm80(config);
  }

  @Override
  String insteadOfIt() {
    return "portable";
  }

  @ParameterizedTest
  @MethodSource("devices")
  void chunksAndDecodeStepsGiveTheBitsOfOnePrefill(Device device) {
    for (int window : new int[] {0, 70}) {
      ModelConfig config = AttentionRun.config(4, 1, 64, window);
      try (AttentionRun run = open(device, config, 150, 2)) {
        float[][] qkv = AttentionRun.random(config, DType.BF16, 150, 3);
        float[][] whole = run.step(null, new Part(run.open(150), 0, qkv)).z();
        int sequence = run.open(150);
        int[] cuts = {0, 1, 30, 64, 97, 149, 150};
        for (int i = 0; i + 1 < cuts.length; i++) {
          float[][] chunk = Arrays.copyOfRange(qkv, cuts[i], cuts[i + 1]);
          float[][] z = run.step(null, new Part(sequence, cuts[i], chunk)).z();
          for (int row = 0; row < z.length; row++) {
            assertArrayEquals(whole[cuts[i] + row], z[row], "row " + (cuts[i] + row));
          }
        }
      }
    }
  }
}
