package dev.halter.snippets;

import dev.halter.generation.LanguageModel;
import dev.halter.model.Capture;
import dev.halter.neurons.ConceptNeuron;
import dev.halter.patching.Effects;
import dev.halter.patching.Pair;
import dev.halter.patching.PathPatching;
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
      String question = "What is your favourite animal?";
      ConceptNeuron dog = ConceptNeuron.find(model, question, "dog").orElseThrow();
      System.out.println("before: " + model.chat(question));
      System.out.println("after: " + model.chat(question, dog.plan()));
      Capture acts = model.read(question, "blocks.*.hook_resid_post");
      System.out.println("layer 2, last token: " + Arrays.toString(acts.at(2, -1)));
      Pair sum = Pair.of(model, "3 plus 4 is", "3 or 4 is", "7");
      Effects effects = PathPatching.of(model, List.of(sum));
      effects.top(5).forEach(System.out::println);
    }
    // @end
  }
}
