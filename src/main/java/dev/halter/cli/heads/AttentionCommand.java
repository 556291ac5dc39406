package dev.halter.cli.heads;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.ProgressBar;
import dev.halter.cli.WrongUseException;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.heads.AttentionPatterns;
import dev.halter.heads.AttentionPatterns.Weight;
import dev.halter.model.Head;
import dev.halter.patching.Pair;
import dev.halter.pictures.HeatMap;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "attention",
    description = {
      "Shows where the last token of the references looks, by head.",
      "It looks at the spans that the pairs name, the first token and the rest: means over pairs."
    })
final class AttentionCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Mixin HeadOptions heads;

  @Option(
      names = "--pairs",
      paramLabel = "F",
      required = true,
      description = "Pairs, with spans where parts are to be told apart.")
  Path pairs;

  @Option(
      names = "--html",
      paramLabel = "F",
      description = "Write the heads' patterns over one reference as a page.")
  Path html;

  @Option(
      names = "--out",
      paramLabel = "F",
      description = "Draw the same as .svg, .png or .html by its ending.")
  Path picture;

  @Option(
      names = "--pair",
      paramLabel = "N",
      defaultValue = "1",
      description = "Pair whose reference is shown, from 1 (default: ${DEFAULT-VALUE}).")
  int shown;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    OptionValue.requirePicture("--out", picture);
    try (LanguageModel model = options.open()) {
      List<Head> chosen = heads.of(model.config());
      List<Pair> read = Pair.read(pairs, model);
      if (shown < 1 || shown > read.size()) {
        throw new WrongUseException(
            "--pair is %d, but %s has pairs 1 to %d".formatted(shown, pairs, read.size()));
      }
      List<Weight> weights;
      try (ProgressBar bar = new ProgressBar("attention", read.size())) {
        weights = AttentionPatterns.read(model.engine(), read, chosen, bar::at);
      }
      draw(model, read.get(shown - 1), chosen);
      print(model, weights);
      return 0;
    }
  }

  private void draw(LanguageModel model, Pair pair, List<Head> chosen) {
    if (html == null && picture == null) {
      return;
    }
    List<String> pieces = new ArrayList<>();
    for (int token : pair.reference()) {
      pieces.add(model.hasTokenizer() ? model.tokenizer().piece(token) : Integer.toString(token));
    }
    HeatMap patterns = AttentionPatterns.picture(model.engine(), pair.reference(), pieces, chosen);
    if (html != null) {
      patterns.writeHtml(html);
    }
    if (picture != null) {
      patterns.write(picture);
    }
  }

  private void print(LanguageModel model, List<Weight> weights) {
    if (output.isJson()) {
      List<Map<String, Object>> rows = new ArrayList<>();
      for (Weight weight : weights) {
        rows.add(
            Json.object(
                "head", weight.head().toString(),
                "kv_head", weight.head().kvHead(model.config()),
                "part", weight.part(),
                "pairs", weight.pairs(),
                "mean", weight.mean(),
                "std", weight.deviation(),
                "uniform", weight.uniform()));
      }
      output.print(rows);
      return;
    }
    System.out.printf(
        "%-8s %-16s %6s %8s %8s %9s%n", "head", "part", "pairs", "mean", "std", "uniform");
    for (Weight weight : weights) {
      System.out.printf(
          "%-8s %-16s %,6d %7.1f%% %8.1f %8.1f%%%n",
          weight.head(),
          weight.part(),
          weight.pairs(),
          100 * weight.mean(),
          100 * weight.deviation(),
          100 * weight.uniform());
    }
  }
}
