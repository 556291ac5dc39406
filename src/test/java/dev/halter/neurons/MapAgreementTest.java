package dev.halter.neurons;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.Llama;
import dev.halter.neurons.MapAgreement.Shares;
import dev.halter.neurons.MapAgreement.SignShares;
import dev.halter.neurons.NeuronMap.Decode;
import dev.halter.neurons.NeuronMap.Projection;
import dev.halter.neurons.NeuronMap.Settings;
import dev.halter.neurons.NeuronMap.Sign;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class MapAgreementTest {
  /** Two layers of two neurons. */
  private static Settings settings(String model, Projection proj, Decode decode, Sign sign, int k) {
    return new Settings(model, proj, decode, sign, 2, 2, 100, k);
  }

  @Test
  void countsTopTokensAndCommonTokens() {
    Settings plus = settings("a", Projection.UP, Decode.RAW, Sign.PLUS, 2);
    Settings other = settings("b", Projection.UP, Decode.RAW, Sign.PLUS, 2);
    NeuronMap a = MadeMap.of(plus, 1, 2, /**/ 3, 4, /**/ 5, 6, /**/ 7, 8);
    NeuronMap b = MadeMap.of(other, 1, 2, /**/ 4, 3, /**/ 9, 5, /**/ 10, 11);
    MapAgreement found = MapAgreement.of(a, b);
    assertEquals(new Shares(1 / 4.0, 5 / 8.0), found.all());
    assertEquals(List.of(new Shares(0.5, 1), new Shares(0, 0.25)), found.perLayer());
    assertEquals(List.of(new SignShares(1, found.all())), found.perSign());
    assertEquals(new Shares(1, 1), MapAgreement.of(a, a).all());
    assertEquals(found, MapAgreement.of(b, a));
  }

  @Test
  void comparesTheSignsAndTheTokensThatBothHave() {
    Settings both = settings("a", Projection.UP, Decode.RAW, Sign.BOTH, 2);
    Settings minus = settings("a", Projection.UP, Decode.RAW, Sign.MINUS, 1);
    NeuronMap a =
        MadeMap.of(both, 0, 1, 10, 11, /**/ 2, 3, 12, 13, /**/ 4, 5, 14, 15, /**/ 6, 7, 16, 17);
    NeuronMap b = MadeMap.of(minus, 10, 12, 15, 16);
    MapAgreement found = MapAgreement.of(a, b);
    assertEquals(1, found.k());
    assertEquals(4, found.neurons());
    assertEquals(List.of(new SignShares(-1, new Shares(0.75, 0.75))), found.perSign());
    assertEquals(new Shares(0.75, 0.75), found.all());
    assertEquals(List.of(new Shares(1, 1), new Shares(0.5, 0.5)), found.perLayer());
  }

  @Test
  void refusesWhatCannotBeCompared() {
    Settings up = settings("a", Projection.UP, Decode.RAW, Sign.PLUS, 1);
    NeuronMap map = MadeMap.of(up, 1, 2, 3, 4);
    for (Settings other :
        List.of(
            settings("b", Projection.GATE, Decode.RAW, Sign.PLUS, 1),
            settings("b", Projection.UP, Decode.NORM, Sign.PLUS, 1),
            settings("a", Projection.UP, Decode.RAW, Sign.MINUS, 1),
            new Settings("a", Projection.UP, Decode.RAW, Sign.PLUS, 1, 4, 100, 1),
            new Settings("b", Projection.UP, Decode.RAW, Sign.PLUS, 2, 2, 99, 1))) {
      var error =
          assertThrows(
              IllegalArgumentException.class,
              () -> MapAgreement.of(map, MadeMap.of(other, 1, 2, 3, 4)));
      assertTrue(error.getMessage().startsWith("the maps cannot be compared"));
    }
    // One model, read in two ways.
    NeuronMap gate =
        MadeMap.of(settings("a", Projection.GATE, Decode.RAW, Sign.PLUS, 1), 1, 2, 3, 5);
    assertEquals(0.75, MapAgreement.of(map, gate).all().top());
  }

  /** A positive factor changes no order; the final norm's gain does. */
  @ParameterizedTest
  @ValueSource(strings = {"src/test/resources/goldens/llama3/model", "src/main/models/demo"})
  void rawAndUnitAgreeWhollyAndTheFinalNormChangesSome(String folder) {
    try (Device device = CpuDevice.open(2);
        Llama model =
            Llama.load(Path.of(folder), device, DType.F32, new Llama.Limits(8, 8, 1, 1, 64))) {
      NeuronMap raw = map(model, Decode.RAW);
      assertEquals(1.0, MapAgreement.of(raw, map(model, Decode.UNIT)).all().top());
      double norm = MapAgreement.of(raw, map(model, Decode.NORM)).all().top();
      assertTrue(norm > 0 && norm < 1, "agreement with norm: " + norm);
    }
  }

  private static NeuronMap map(Llama model, Decode decode) {
    return NeuronMap.of(model, Projection.UP, decode, Sign.BOTH, 3, n -> {});
  }
}
