package dev.halter.cli.neurons;

import dev.halter.cli.OutputOptions;
import dev.halter.files.Json;
import dev.halter.neurons.MapAgreement;
import dev.halter.neurons.MapAgreement.Shares;
import dev.halter.neurons.MapAgreement.SignShares;
import dev.halter.neurons.NeuronMap;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Parameters;

@Command(
    name = "agree",
    description = {
      "Compares two maps: the share of neurons that have the same top token.",
      "It also tells the share of kept tokens that both have. The maps are of two models, or of one",
      "model decoded in two ways."
    })
public final class AgreeCommand implements Callable<Integer> {
  @Parameters(index = "0", paramLabel = "A", description = "A map.")
  Path a;

  @Parameters(index = "1", paramLabel = "B", description = "Another map.")
  Path b;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    MapAgreement agreement = MapAgreement.of(NeuronMap.read(a), NeuronMap.read(b));
    if (output.isJson()) {
      output.print(document(agreement));
      return 0;
    }
    System.out.printf(
        "%,d neurons: same top token %.1f %%, same top %d %.1f %%%n",
        agreement.neurons(),
        100 * agreement.all().top(),
        agreement.k(),
        100 * agreement.all().overlap());
    for (SignShares sign : agreement.perSign()) {
      print(sign.sign() > 0 ? "sign +" : "sign -", sign.shares());
    }
    for (int layer = 0; layer < agreement.perLayer().size(); layer++) {
      print("layer %d".formatted(layer), agreement.perLayer().get(layer));
    }
    return 0;
  }

  private static void print(String what, Shares shares) {
    System.out.printf("%-9s %6.1f %% %6.1f %%%n", what, 100 * shares.top(), 100 * shares.overlap());
  }

  private static Map<String, Object> document(MapAgreement agreement) {
    List<Map<String, Object>> signs = new ArrayList<>();
    for (SignShares sign : agreement.perSign()) {
      signs.add(
          Json.object(
              "sign", sign.sign(),
              "agreement", sign.shares().top(),
              "overlap", sign.shares().overlap()));
    }
    return Json.object(
        "agreement",
        agreement.all().top(),
        "per_layer",
        agreement.perLayer().stream().map(Shares::top).toList(),
        "top_k",
        Json.object(
            "k",
            agreement.k(),
            "overlap",
            agreement.all().overlap(),
            "per_layer",
            agreement.perLayer().stream().map(Shares::overlap).toList()),
        "per_sign",
        signs,
        "neurons",
        agreement.neurons());
  }
}
