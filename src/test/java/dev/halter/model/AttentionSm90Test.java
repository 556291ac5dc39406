package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cuda.TestCuda;
import dev.halter.model.Attention.Form;
import dev.halter.model.Attention.Wide;
import dev.halter.model.AttentionRun.Part;
import dev.halter.model.AttentionRun.Step;
import dev.halter.weights.ModelConfig;
import java.lang.reflect.Proxy;
import java.util.Arrays;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The form with wgmma for spans of several rows. */
class AttentionSm90Test extends TensorAttention {
  @BeforeAll
  static void needsItsCard() {
    if (TestCuda.REAL) {
      try (Device card = TestCuda.open()) {
        assumeTrue(card.runsSm90(), "needs a card of sm_90");
      }
    }
  }

  @Override
  Form form(Device device, ModelConfig config) {
    return Form.sm90(device, config);
  }

  @Override
  String insteadOfIt() {
    return "sm80";
  }

  /** However its prompt is cut into spans of several rows, and whatever passes beside it. */
  @ParameterizedTest
  @MethodSource("devices")
  void rowsDependOnNothingElseInTheStep(Device device) {
    for (int[] shape : new int[][] {{4, 64, 0}, {3, 64, 150}, {2, 128, 0}}) {
      ModelConfig config = AttentionRun.config(shape[0], 1, shape[1], shape[2]);
      try (AttentionRun run = open(device, config, 360, 3)) {
        float[][] qkv = AttentionRun.random(config, DType.BF16, 300, 3);
        float[][] other = AttentionRun.random(config, DType.BF16, 60, 4);
        float[][] whole = run.step(null, new Part(run.open(300), 0, qkv)).z();
        int sequence = run.open(300);
        int beside = run.open(60);
        int[] cuts = {0, 2, 33, 64, 161, 298, 300};
        for (int i = 0; i + 1 < cuts.length; i++) {
          float[][] chunk = Arrays.copyOfRange(qkv, cuts[i], cuts[i + 1]);
          Part part = new Part(sequence, cuts[i], chunk);
          float[][] neighbour = Arrays.copyOfRange(other, 10 * i, 10 * i + 9);
          Step step =
              i % 2 == 0
                  ? run.step(null, part)
                  : run.step(null, new Part(beside, 0, neighbour), part);
          float[][] z = step.z();
          int first = z.length - chunk.length;
          for (int row = 0; row < chunk.length; row++) {
            assertArrayEquals(whole[cuts[i] + row], z[first + row], "row " + (cuts[i] + row));
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void longPromptsMakeWhatTheOtherFormMakes(Device device) {
    int n = TestCuda.REAL ? 20_000 : 530;
    for (int window : new int[] {0, n / 3}) {
      ModelConfig config = AttentionRun.config(4, 1, 128, window);
      try (AttentionRun run = open(device, config, n, 1);
          AttentionRun other =
              new AttentionRun(device, DType.BF16, config, Form.sm80(config), n, 1)) {
        float[][] qkv = AttentionRun.random(config, DType.BF16, n, 7);
        Step step = run.keepingLogSums(new Part(run.open(n), 0, qkv));
        Step expected = other.keepingLogSums(new Part(other.open(n), 0, qkv));
        for (int row = 0; row < n; row++) {
          assertArrayEquals(expected.z()[row], step.z()[row], (float) TOLERANCE, "row " + row);
        }
        assertArrayEquals(expected.changes(), step.changes(), 1e-3f);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void decodeStepsMakeTheBitsOfTheOtherForm(Device device) {
    ModelConfig config = AttentionRun.config(4, 1, 64, 0);
    try (AttentionRun run = open(device, config, 200, 2);
        AttentionRun other =
            new AttentionRun(device, DType.BF16, config, Form.sm80(config), 200, 2)) {
      float[][] qkv = AttentionRun.random(config, DType.BF16, 141, 3);
      float[][] prompt = Arrays.copyOfRange(qkv, 0, 140);
      float[][] last = Arrays.copyOfRange(qkv, 140, 141);
      int mine = run.open(200);
      int its = other.open(200);
      run.step(null, new Part(mine, 0, prompt));
      other.step(null, new Part(its, 0, prompt));
      assertArrayEquals(
          other.step(null, new Part(its, 140, last)).z()[0],
          run.step(null, new Part(mine, 140, last)).z()[0]);
    }
  }

  @ParameterizedTest
  @MethodSource("devices")
  void blocksChangeNoBits(Device device) {
    ModelConfig config = AttentionRun.config(8, 2, 128, 0);
    float[][] qkv = AttentionRun.random(config, DType.BF16, 300, 3);
    float[][] expected = null;
    for (int blocks : new int[] {1, 3, 1000}) {
      Form form = Form.sm80(config).with(Wide.sm90(128, blocks));
      try (AttentionRun run = new AttentionRun(device, DType.BF16, config, form, 300, 1)) {
        float[][] z = run.step(null, new Part(run.open(300), 0, qkv)).z();
        if (expected == null) {
          expected = z;
        }
        for (int row = 0; row < z.length; row++) {
          assertArrayEquals(expected[row], z[row]);
        }
      }
    }
    assertEquals(300, expected.length);
  }

  @Test
  void cardsHaveTheFormThatIsAskedFor() {
    ModelConfig config = AttentionRun.config(32, 8, 128, 0);
    assertEquals("attention_sm90_128", chosen(true, "auto", config).wide().kernel());
    assertEquals(132, chosen(true, "sm90", config).wide().blocks());
    assertEquals(Form.sm80(config), chosen(true, "sm80", config));
    assertEquals(Form.sm80(config), chosen(false, "auto", config));
    assertEquals("attention_bf16", chosen(true, "portable", config).kernel());
    ModelConfig small = AttentionRun.config(4, 2, 32, 0);
    assertEquals("attention_bf16", chosen(true, "auto", small).kernel());
    for (String wrong : new String[] {"sm90", "wgmma"}) {
      var error = assertThrows(IllegalArgumentException.class, () -> chosen(false, wrong, config));
      assertTrue(error.getMessage().contains("-Dhalter.attention=" + wrong), error.getMessage());
      assertTrue(error.getMessage().contains("choose auto, portable"), error.getMessage());
    }
  }

  private static Form chosen(boolean sm90, String asked, ModelConfig config) {
    Device card =
        (Device)
            Proxy.newProxyInstance(
                Device.class.getClassLoader(),
                new Class<?>[] {Device.class},
                (proxy, method, arguments) ->
                    switch (method.getName()) {
                      case "kind" -> "cuda";
                      case "description" -> "a card";
                      case "runsSm90" -> sm90;
                      case "multiprocessors" -> 132;
                      default -> throw new AssertionError(method);
                    });
    System.setProperty("halter.attention", asked);
    try {
      return Form.of(card, config, DType.BF16);
    } finally {
      System.clearProperty("halter.attention");
    }
  }
}
