import dev.halter.generation.LanguageModel;
import dev.halter.model.Capture;
import dev.halter.neurons.ConceptNeuron;
import dev.halter.patching.Effects;
import dev.halter.patching.Pair;
import dev.halter.patching.PathPatching;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;

/** Runs the ten lines of the README, which a test holds equal to these, and checks what they say. */
public final class Consumer {
  public static void main(String[] arguments) {
    PrintStream standard = System.out;
    ByteArrayOutputStream printed = new ByteArrayOutputStream();
    System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
    run(Path.of(arguments[0]));
    System.setOut(standard);
    List<String> lines = printed.toString(StandardCharsets.UTF_8).lines().toList();
    lines.forEach(System.out::println);
    if (lines.size() != 8 || lines.get(0).contains("dog") || !lines.get(1).contains("dog")) {
      throw new AssertionError("clamping the neuron of dogs did not change the answer to a dog");
    }
  }

  private static void run(Path folder) {
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
