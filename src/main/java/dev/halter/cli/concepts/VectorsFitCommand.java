package dev.halter.cli.concepts;

import dev.halter.cli.InputLine;
import dev.halter.cli.LayerRange;
import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.SidesOptions;
import dev.halter.cli.WrongUseException;
import dev.halter.concepts.ControlVectorFit;
import dev.halter.concepts.ControlVectorFit.Length;
import dev.halter.concepts.ControlVectorFit.Method;
import dev.halter.concepts.ControlVectorFit.Separation;
import dev.halter.concepts.ControlVectorFit.SiteFit;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Site;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "fit",
    description = {
      "Makes a control vector of prompts that show a behaviour and prompts that do not.",
      "For each layer it is the direction in which the activations of their last tokens differ. As GGUF",
      "llama.cpp and repeng read it too."
    })
final class VectorsFitCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Mixin SidesOptions sides;

  @Option(
      names = "--method",
      paramLabel = "M",
      defaultValue = "mean",
      description =
          "mean: difference of the sides' means; pca: first principal component of the differences"
              + " of pairs, the n-th positive prompt and the n-th negative one (default:"
              + " ${DEFAULT-VALUE}).")
  String method;

  @Option(
      names = "--layers",
      paramLabel = "A..B",
      description =
          "Blocks that get a direction, both ends included (default: all; of GGUF all but 0, for"
              + " which it has no place).")
  String layers;

  @Option(
      names = "--site",
      paramLabel = "S",
      defaultValue = "hook_resid_post",
      description =
          "Where activations are read (default: ${DEFAULT-VALUE}, the only place that GGUF knows).")
  String site;

  @Option(
      names = "--length",
      paramLabel = "L",
      defaultValue = "gap",
      description =
          "gap: as long as the sides' means lie apart, so that scale 1 carries one onto the other;"
              + " unit: 1, as repeng and llama.cpp make theirs (default: ${DEFAULT-VALUE}).")
  String length;

  @Option(
      names = "--out",
      paramLabel = "F",
      required = true,
      description = "Vectors to write: F ends in .gguf or .safetensors.")
  Path out;

  @ArgGroup(exclusive = false)
  HeldOut heldOut;

  static final class HeldOut {
    @Option(
        names = "--test-positive",
        paramLabel = "F",
        required = true,
        description = "Other prompts that show the behaviour, to test the vectors on.")
    Path positive;

    @Option(
        names = "--test-negative",
        paramLabel = "F",
        required = true,
        description = "Other prompts that do not, likewise.")
    Path negative;
  }

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    Method how = OptionValue.of(Method.class, "--method", method);
    Length unit = OptionValue.of(Length.class, "--length", length);
    List<Site> sites = sites(ModelConfig.read(options.folder()));
    try (LanguageModel model = options.openForPairs()) {
      List<int[]> wanted = sides.positive(model);
      List<int[]> unwanted = sides.negative(model);
      ControlVectorFit fit = new ControlVectorFit(model, sites, how, unit, wanted, unwanted);
      List<Separation> tested = heldOut == null ? null : test(model, fit, wanted, unwanted);
      fit.write(out);
      if (output.isJson()) {
        output.print(
            Json.object(
                "method", method,
                "length", length,
                "positive_prompts", wanted.size(),
                "negative_prompts", unwanted.size(),
                "layers", rows(fit.fits(), tested),
                "out", out.toString()));
      } else {
        print(fit.fits(), tested);
        System.out.printf(
            "%s of %,d positive and %,d negative prompts' last tokens: %s%n",
            method, wanted.size(), unwanted.size(), out);
      }
      return 0;
    }
  }

  /** The sites asked for, which {@code --out} can hold. */
  private List<Site> sites(ModelConfig config) {
    Site.Kind kind = Site.of("blocks.0." + site).kind();
    if (!kind.isResidual()) {
      throw new WrongUseException(
          "--site is '" + site + "', must be of the residual stream, such as hook_resid_post");
    }
    int first = out.toString().endsWith(".gguf") ? 1 : 0;
    LayerRange range =
        layers == null ? new LayerRange(first, config.nLayers() - 1) : LayerRange.parse(layers);
    List<Site> sites =
        IntStream.rangeClosed(range.first(), range.last())
            .mapToObj(layer -> new Site(kind, layer))
            .toList();
    sites.getLast().requireOf(config);
    try {
      ControlVectorFit.check(out, sites);
    } catch (IllegalArgumentException e) {
      throw new WrongUseException("--out " + e.getMessage());
    }
    return sites;
  }

  private List<Separation> test(
      LanguageModel model, ControlVectorFit fit, List<int[]> wanted, List<int[]> unwanted) {
    List<int[]> others = InputLine.prompts(heldOut.positive, model);
    List<int[]> unwantedOthers = InputLine.prompts(heldOut.negative, model);
    Set<List<Integer>> known = new HashSet<>(texts(wanted));
    known.addAll(texts(unwanted));
    List<List<Integer>> all = new ArrayList<>(texts(others));
    all.addAll(texts(unwantedOthers));
    long repeated = all.stream().filter(known::contains).count();
    if (repeated > 0) {
      System.err.printf(
          "halter: %,d of %,d test prompts are among those that the vectors are made of%n",
          repeated, all.size());
    }
    return fit.separation(others, unwantedOthers);
  }

  private static List<List<Integer>> texts(List<int[]> prompts) {
    return prompts.stream().map(tokens -> Arrays.stream(tokens).boxed().toList()).toList();
  }

  private static List<Object> rows(List<SiteFit> fits, List<Separation> tested) {
    List<Object> rows = new ArrayList<>();
    for (int i = 0; i < fits.size(); i++) {
      SiteFit fit = fits.get(i);
      Map<String, Object> row =
          Json.object(
              "layer", fit.site().layer(),
              "site", fit.site().name(),
              "norm", fit.norm(),
              "gap", fit.gap(),
              "activation_norm", fit.activationNorm());
      fit.explained().ifPresent(share -> row.put("explained_variance", share));
      row.put("separation", row(fit.fitted()));
      if (tested != null) {
        row.put("test_separation", row(tested.get(i)));
      }
      rows.add(row);
    }
    return rows;
  }

  private static Map<String, Object> row(Separation separation) {
    return Json.object("auc", separation.auc(), "accuracy", separation.accuracy());
  }

  private static void print(List<SiteFit> fits, List<Separation> tested) {
    System.out.printf(
        "%-28s %9s %9s %14s %10s %6s %9s%s%n",
        "site",
        "norm",
        "gap",
        "of activations",
        "explained",
        "AUC",
        "accuracy",
        tested == null ? "" : "   test AUC  accuracy");
    for (int i = 0; i < fits.size(); i++) {
      SiteFit fit = fits.get(i);
      System.out.printf(
          "%-28s %9.4f %9.4f %13.1f%% %10s %6.3f %8.1f%%%s%n",
          fit.site(),
          fit.norm(),
          fit.gap(),
          100 * fit.gap() / fit.activationNorm(),
          fit.explained().isPresent()
              ? "%.1f%%".formatted(100 * fit.explained().getAsDouble())
              : "–",
          fit.fitted().auc(),
          100 * fit.fitted().accuracy(),
          tested == null
              ? ""
              : "     %6.3f %8.1f%%"
                  .formatted(tested.get(i).auc(), 100 * tested.get(i).accuracy()));
    }
  }
}
