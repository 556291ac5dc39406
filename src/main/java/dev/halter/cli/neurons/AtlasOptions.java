package dev.halter.cli.neurons;

import dev.halter.cli.OptionValue;
import dev.halter.cli.PromptOptions;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Site;
import dev.halter.neurons.Atlas;
import dev.halter.neurons.NeuronSearch;
import dev.halter.neurons.NeuronSearch.Bounds;
import dev.halter.neurons.Verification;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Option;

/** The page of a map, and what is measured for it. */
final class AtlasOptions {
  @Option(
      names = "--html",
      paramLabel = "F",
      required = true,
      description = "Page to write: one file, works offline.")
  Path html;

  @ArgGroup(exclusive = false)
  Measure measure;

  /** Concepts whose neurons are clamped for the page's curves. */
  static final class Measure {
    @Option(
        names = "--concept",
        paramLabel = "T",
        required = true,
        description =
            "Measure for the page what clamping the neurons of this token does; may be repeated.")
    List<String> concepts = new ArrayList<>();

    @ArgGroup(multiplicity = "1")
    PromptOptions prompt;

    @Option(
        names = "--values",
        paramLabel = "X",
        split = ",",
        description = "Values to clamp to (default: -60 to 60 in eleven steps).")
    float[] values = {-60, -40, -30, -20, -10, 0, 10, 20, 30, 40, 60};

    @Option(
        names = "--candidates",
        paramLabel = "N",
        description = "Neurons to clamp for each concept; the page shows the best (default: 32).")
    int candidates = 32;

    /** Refuses wrong use before any work is done. */
    void check() {
      NeuronOptions.requireFinite("--values", values);
      OptionValue.requireAtLeastOne("--candidates", candidates);
    }

    List<Atlas.Measurement> run(LanguageModel model, NeuronSearch search) {
      Maps.requireNeurons(search.map(), model.config());
      Site.Kind site = search.map().settings().projection().site();
      List<Atlas.Measurement> measured = new ArrayList<>();
      for (String concept : concepts) {
        Set<Integer> tokens = model.tokensOf(concept);
        Verification effects =
            Verification.of(
                model.engine(),
                prompt.tokens(model),
                tokens,
                search,
                Verification.candidates(search, tokens, Bounds.top(candidates)),
                site,
                values,
                0);
        if (effects.trials().isEmpty()) {
          throw new IllegalArgumentException(
              "no neuron of the map names '" + concept + "': there is nothing to measure");
        }
        measured.add(new Atlas.Measurement(concept, prompt.text(model), site, effects));
      }
      return measured;
    }
  }
}
