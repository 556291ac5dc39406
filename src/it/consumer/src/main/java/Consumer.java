import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Message;
import java.nio.file.Path;
import java.util.List;

/** Asks a model about its favourite animal, then with the neuron of dogs clamped. */
public final class Consumer {
  public static void main(String[] arguments) {
    var options = new LanguageModel.Options(Path.of(arguments[0]), "cpu", "f32", 0, 0, 1);
    try (LanguageModel model = LanguageModel.open(options)) {
      int[] prompt = model.encode(List.of(new Message("user", "What is your favourite animal?")));
      Request request = Request.greedy("favourite", prompt, 32, model.stopTokens());
      Site site = Site.parse("blocks.1.mlp.hook_pre_linear", model.config());
      SteeringPlan dogs = SteeringPlan.clamp(site, 270, -20);
      String plain = model.decode(model.engine().run(request).orThrow().tokens());
      String steered = model.decode(model.engine().run(request.with(dogs)).orThrow().tokens());
      System.out.println("plain:   " + plain + "\nsteered: " + steered);
      if (plain.contains("dog") || !steered.contains("dog")) {
        throw new AssertionError("clamping the neuron of dogs did not change the answer to a dog");
      }
    }
  }
}
