package dev.halter.cli;

import dev.halter.generation.LanguageModel;
import dev.halter.neurons.NeuronMap;
import dev.halter.neurons.NeuronSearch;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "neurons",
    description = "Finds neurons by token in a map, or shows the tokens of one neuron.")
final class NeuronsCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(names = "--map", paramLabel = "F", required = true, description = "Map to search.")
  Path map;

  @ArgGroup(multiplicity = "1")
  Question question;

  /** By token or by neuron. */
  static final class Question {
    @Option(
        names = "--token",
        paramLabel = "T",
        required = true,
        description = "Token, with and without a space before it; several mean one concept.")
    List<String> tokens = new ArrayList<>();

    @Option(names = "--neuron", paramLabel = "L.N", required = true, description = "Neuron.")
    String neuron;
  }

  @Option(
      names = "--top",
      paramLabel = "N",
      defaultValue = "10",
      description = "Rows to show (default: ${DEFAULT-VALUE}).")
  int top;

  @Option(names = "--json", description = "Print JSON.")
  boolean json;

  @Override
  public Integer call() {
    if (top < 1) {
      throw new WrongUseException("--top is " + top + ", must be 1 or more");
    }
    NeuronOptions neuron = question.neuron == null ? null : NeuronOptions.parse(question.neuron);
    NeuronMap neurons = NeuronMap.read(map);
    try (LanguageModel model = options.open(1)) {
      neurons.requireOf(model.config(), model.llama().weights().checkpoint(), map);
      List<NeuronSearch.Hit> hits;
      if (neuron != null) {
        hits = NeuronSearch.byNeuron(neurons, neuron.layer(), neuron.neuron(), top);
      } else {
        Set<Integer> tokens = new LinkedHashSet<>();
        question.tokens.forEach(word -> tokens.addAll(model.tokensOf(word)));
        hits = NeuronSearch.byToken(neurons, tokens, top);
      }
      print(model, hits);
      return 0;
    }
  }

  private void print(LanguageModel model, List<NeuronSearch.Hit> hits) {
    if (json) {
      List<Map<String, Object>> rows = new ArrayList<>();
      for (NeuronSearch.Hit hit : hits) {
        rows.add(
            Json.object(
                "layer", hit.layer(),
                "neuron", hit.neuron(),
                "sign", hit.sign(),
                "rank", hit.rank(),
                "token_id", hit.tokenId(),
                "token", model.tokenizer().piece(hit.tokenId()),
                "logit", hit.logit(),
                "probability", hit.probability()));
      }
      Json.print(rows);
      return;
    }
    System.out.printf(
        "%-10s %4s %4s  %-16s %9s %11s%n",
        "neuron", "sign", "rank", "token", "logit", "probability");
    for (NeuronSearch.Hit hit : hits) {
      System.out.printf(
          "%-10s %4s %4d  %-16s %9.3f %11.4f%n",
          hit.layer() + "." + hit.neuron(),
          hit.sign() > 0 ? "+" : "-",
          hit.rank(),
          model.tokenizer().piece(hit.tokenId()),
          hit.logit(),
          hit.probability());
    }
  }
}
