package dev.halter.cli;

import dev.halter.neurons.MapAgreement;
import dev.halter.neurons.NeuronMap;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

@Command(
    name = "agree",
    description = "Compares two maps: the share of neurons that have the same top token.")
final class AgreeCommand implements Callable<Integer> {
  @Parameters(index = "0", paramLabel = "A", description = "A map.")
  Path a;

  @Parameters(index = "1", paramLabel = "B", description = "Another map.")
  Path b;

  @Option(names = "--json", description = "Print JSON.")
  boolean json;

  @Override
  public Integer call() {
    MapAgreement agreement = MapAgreement.of(NeuronMap.read(a), NeuronMap.read(b));
    if (json) {
      Json.print(
          Json.object("agreement", agreement.agreement(), "per_layer", agreement.perLayer()));
      return 0;
    }
    System.out.printf("same top token: %.1f %%%n", 100 * agreement.agreement());
    for (int layer = 0; layer < agreement.perLayer().length; layer++) {
      System.out.printf("layer %3d: %.1f %%%n", layer, 100 * agreement.perLayer()[layer]);
    }
    return 0;
  }
}
