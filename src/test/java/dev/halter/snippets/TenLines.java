package dev.halter.snippets;

import dev.halter.generation.LanguageModel;
import dev.halter.model.Capture;
import dev.halter.model.Edit;
import dev.halter.neurons.NeuronMap;
import dev.halter.neurons.NeuronSearch;
import dev.halter.neurons.NeuronSearch.Bounds;
import dev.halter.neurons.NeuronSearch.Hit;
import dev.halter.patching.Effects;
import dev.halter.patching.Pair;
import dev.halter.patching.PathPatching;
import dev.halter.steering.SteeringPlan;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;

/** Halter in ten lines, as README shows them: reads, steers and patches a model. */
public final class TenLines {
  private TenLines() {}

  /** Runs them on the model folder that is named. */
  public static void main(String... arguments) {
    run(Path.of(arguments[0]));
  }

  static void run(Path folder) {
    // @start region="ten"
    try (LanguageModel model = LanguageModel.open(folder)) {
      NeuronSearch search = NeuronMap.of(model).search();
      Hit dog = search.byToken(model.tokensOf("dog"), Bounds.top(1)).getFirst();
      SteeringPlan dogs =
          SteeringPlan.of(Edit.clamp(search.site(dog), dog.neuron(), 20 * dog.sign()));
      System.out.println("before: " + model.chat("What is your favourite animal?"));
      System.out.println("after: " + model.chat("What is your favourite animal?", dogs));
      Capture acts = model.read("My favourite animal is a dog", "blocks.*.hook_resid_post");
      System.out.println("layer 2, last token: " + Arrays.toString(acts.at(2, -1)));
      Pair sum = Pair.of(model, "3 plus 4 is", "3 or 4 is", "7");
      Effects effects = PathPatching.of(model, List.of(sum));
      effects
          .top(5)
          .forEach(sender -> System.out.println(sender.name() + ": " + sender.effect().delta()));
    }
    // @end
  }
}
