package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.SameBits;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.files.BadFileException;
import dev.halter.model.Capture;
import dev.halter.model.Head;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.steering.HeadControl;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringReport;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.Safetensors;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Plans with head_affine, from a control file to logits; goldens by tools/goldens/head_controls.
 */
class HeadControlTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#forModels";
  private static final Path GOLDEN = Path.of("src/test/resources/head-controls/llama3.safetensors");
  private static final Site LOGITS = new Site(Site.Kind.LOGITS, -1);

  @TempDir Path folder;

  /** The golden control, as a file made for a model. */
  private HeadControl control(String fingerprint) {
    try (Safetensors golden = Safetensors.open(GOLDEN)) {
      int[] places = golden.tensor("heads").toInts();
      List<Head> heads = new ArrayList<>();
      for (int i = 0; i < places.length; i += 2) {
        heads.add(new Head(places[i], places[i + 1]));
      }
      return new HeadControl(
          fingerprint,
          Map.of("method", "test"),
          heads,
          golden.tensor("A").toFloats(),
          golden.tensor("b").toFloats());
    }
  }

  private SteeringPlan plan(ModelConfig config, String more) {
    String text =
        "{'interventions': [{'op': 'head_affine', 'file': 'c.safetensors'%s}]}".formatted(more);
    return SteeringPlan.parse(text.replace('\'', '"'), folder, config);
  }

  private static float[] golden(String name) {
    try (Safetensors golden = Safetensors.open(GOLDEN)) {
      return golden.tensor(name).toFloats();
    }
  }

  private static int[] tokens() {
    try (Safetensors golden = Safetensors.open(GOLDEN)) {
      return golden.tensor("tokens").toInts();
    }
  }

  private static Request request(ModelConfig config, int[] tokens, SteeringPlan plan) {
    Capture capture = new Capture(config, Set.of(LOGITS), tokens.length);
    return Request.of(tokens).withId("r").withMaxTokens(0).with(plan).with(capture);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void mappedHeadsEqualTransformersInAMixedBatchAndAlone(Device device) {
    try (Golden model = new Golden("llama3");
        Llama llama = model.load(device, DType.F32, 8);
        Engine engine = new Engine(llama)) {
      ModelConfig config = llama.config();
      control(llama.fingerprint()).write(folder.resolve("c.safetensors"));
      int[] tokens = tokens();
      List<SteeringPlan> plans =
          List.of(
              SteeringPlan.NONE,
              plan(config, ""),
              plan(config, ", 'strength': 0"),
              plan(config, ", 'strength': 0.5, 'heads': ['1.4']"));
      List<Request> together = plans.stream().map(plan -> request(config, tokens, plan)).toList();
      List<Result> results = engine.run(together);
      float[][] logits =
          together.stream().map(r -> r.capture().values().get(LOGITS)).toArray(float[][]::new);

      assertTrue(Golden.difference(golden("plain"), logits[0]) < 1e-3);
      assertTrue(Golden.difference(golden("mapped"), logits[1]) < 1e-3);
      assertTrue(Golden.difference(golden("plain"), logits[1]) > 0.02, "the control does nothing");
      assertTrue(Golden.difference(logits[0], logits[3]) > 0.001);
      SameBits.assertSame(logits[0], logits[2], 1e-4, "with strength 0");
      for (int i = 0; i < plans.size(); i++) {
        Request alone = request(config, tokens, plans.get(i));
        engine.run(alone).orThrow();
        float[] values = alone.capture().values().get(LOGITS);
        SameBits.assertSame(values, logits[i], 1e-4, "alone, plan " + i);
      }
      List<SteeringReport.Entry> report = results.get(1).orThrow().report().interventions();
      assertEquals(
          List.of("blocks.0.attn.hook_z", "blocks.1.attn.hook_z", "blocks.2.attn.hook_z"),
          report.stream().map(entry -> entry.site().toString()).toList());
      for (SteeringReport.Entry entry : report) {
        assertEquals(tokens.length, entry.tokens());
        assertTrue(entry.meanChange() > 0);
      }
    }
  }

  @Test
  void aFileOfAnotherModelOrShapeIsRefused() throws IOException {
    try (Golden model = new Golden("llama3");
        Device device = CpuDevice.open(1);
        Llama llama = model.load(device, DType.F32, 2);
        Engine engine = new Engine(llama)) {
      ModelConfig config = llama.config();
      control("another").write(folder.resolve("c.safetensors"));
      String error =
          assertThrows(
                  IllegalArgumentException.class,
                  () -> engine.check(request(config, tokens(), plan(config, ""))))
              .getMessage();
      assertTrue(error.contains("was made for another model"), error);
      error = refusal(config, ", 'heads': ['1.4', '5.0']");
      assertTrue(error.contains("1.4") && error.contains("2.5"), error);
      refusal(config, ", 'heads': []");
      refusal(config, ", 'strength': 'much'");
      assertTrue(refusal(config, ", 'scale': 2").contains("scale"));

      int d = config.dHead();
      write(new int[] {0, 9}, d, d);
      assertTrue(refusal(config, "").contains("0.9"));
      write(new int[] {0, 1, 0, 1}, d, d);
      refusal(config, "");
      write(new int[] {0, 1}, d + 1, d + 1);
      assertTrue(refusal(config, "").contains("[1, %d, %d]".formatted(d, d)));
      write(new int[] {0, 1}, d, d + 1);
      refusal(config, "");
      Files.copy(GOLDEN, folder.resolve("c.safetensors"), StandardCopyOption.REPLACE_EXISTING);
      assertTrue(refusal(config, "").contains("is no head control"));
      Files.delete(folder.resolve("c.safetensors"));
      assertTrue(refusal(config, "").contains("c.safetensors"));
    }
  }

  private String refusal(ModelConfig config, String more) {
    return assertThrows(BadFileException.class, () -> plan(config, more)).getMessage();
  }

  private void write(int[] heads, int d, int dOfB) {
    int n = heads.length / 2;
    float[] a = new float[n * d * d];
    Arrays.fill(a, 0.5f);
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            folder.resolve("c.safetensors"),
            Map.of("format", "halter head control", "version", "1", "fingerprint", "any"),
            List.of(
                new TensorSpec("heads", DType.I32, n, 2),
                new TensorSpec("A", DType.F32, n, d, d),
                new TensorSpec("b", DType.F32, n, dOfB)))) {
      out.write("heads", heads);
      out.write("A", a);
      out.write("b", new float[n * dOfB]);
    }
  }
}
