package dev.halter.cli.neurons;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.WrongUseException;
import dev.halter.files.BadFileException;
import dev.halter.files.Destination;
import dev.halter.files.Json;
import dev.halter.files.TextFile;
import dev.halter.generation.LanguageModel;
import dev.halter.neurons.Divergence;
import dev.halter.neurons.NeuronMap;
import dev.halter.neurons.Tars;
import dev.halter.text.Message;
import dev.halter.text.VisibleText;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "tars",
    description = {
      "Takes a concept out of a model's weights, and measures the edited copy.",
      "It replaces the feed-forward vectors nearest to the concept by the reversed targeting vector",
      "(TARS, arXiv 2412.10257)."
    })
final class EditTarsCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(
      names = "--concept",
      paramLabel = "T",
      required = true,
      description = "Token, with and without a space before it; several mean one concept.")
  List<String> concept = new ArrayList<>();

  @Option(
      names = "--prompt",
      paramLabel = "T",
      description = "Plain text after which the concept should come next; may be repeated.")
  List<String> prompts = new ArrayList<>();

  @Option(
      names = "--ask",
      paramLabel = "T",
      description = "A user message whose answer begins with the concept; may be repeated.")
  List<String> questions = new ArrayList<>();

  @Option(names = "--out", paramLabel = "DIR", required = true, description = "New model folder.")
  Path out;

  @Option(
      names = "--edits",
      paramLabel = "N",
      defaultValue = "1",
      description = "Weight vectors to replace (default: ${DEFAULT-VALUE}).")
  int edits;

  @Option(
      names = "--matrices",
      paramLabel = "M",
      split = ",",
      defaultValue = "up,gate,down",
      description = "Where to look: rows of up and gate, columns of down (default: all).")
  List<String> matrices = new ArrayList<>();

  @Option(
      names = "--noise",
      paramLabel = "X",
      defaultValue = "0.5",
      description =
          "Length of the noise that refines the target, in lengths of it (default:"
              + " ${DEFAULT-VALUE}).")
  double noise;

  @Option(
      names = "--draws",
      paramLabel = "N",
      defaultValue = "1024",
      description =
          "Noisy copies a round, three rounds; 0: no refining (default: ${DEFAULT-VALUE}).")
  int draws;

  @Option(
      names = "--seed",
      paramLabel = "N",
      defaultValue = "0",
      description = "Of the noise (default: ${DEFAULT-VALUE}).")
  long seed;

  @Option(
      names = "--held-out",
      paramLabel = "F",
      description = "Texts, one a line, on which the edited model is compared with the model.")
  Path heldOut;

  @Mixin OutputOptions output;

  private static final int ROUNDS = 3;
  private static final int SHOWN = 8;

  /** Both models on the same prompts and texts. */
  private record Measured(List<Tars.Trigger> triggers, List<float[]> logits) {}

  @Override
  public Integer call() {
    Set<NeuronMap.Projection> projections = EnumSet.noneOf(NeuronMap.Projection.class);
    for (String matrix : matrices) {
      projections.add(OptionValue.of(NeuronMap.Projection.class, "--matrices", matrix));
    }
    if (prompts.isEmpty() && questions.isEmpty()) {
      throw new WrongUseException(
          "no prompt: give --prompt or --ask, after which the concept comes");
    }
    if (edits < 1 || draws < 0 || !(noise > 0)) {
      throw new WrongUseException("--edits must be 1 or more, --draws 0 or more, --noise above 0");
    }
    if (Files.exists(out)) {
      throw new WrongUseException("--out " + out + " exists already: name a new folder");
    }
    Destination.checkFolder(out);
    try (LanguageModel model = options.open()) {
      int vectors = model.config().nLayers() * model.config().dMlp() * projections.size();
      if (edits > vectors) {
        throw new WrongUseException("--edits is %d, of only %d".formatted(edits, vectors));
      }
      Set<Integer> tokens = new LinkedHashSet<>();
      concept.forEach(word -> tokens.addAll(model.tokensOf(word)));
      List<int[]> asked = new ArrayList<>();
      prompts.forEach(prompt -> asked.add(model.encode(prompt)));
      questions.forEach(
          question -> asked.add(model.encode(List.of(new Message("user", question)))));
      List<int[]> all = texts(model);
      List<int[]> texts = Divergence.comparable(model, all);

      Tars tars = new Tars(model, tokens);
      Tars.Target target =
          tars.target(asked, new Tars.Refinement(noise, draws, draws == 0 ? 0 : ROUNDS, seed));
      List<Tars.Nearest> nearest = tars.nearest(target.vector(), projections, edits);
      tars.write(out, target.vector(), nearest);

      Measured before = new Measured(tars.triggers(model, asked), Divergence.logits(model, texts));
      Measured after;
      options.model = out;
      try (LanguageModel edited = options.open()) {
        after = new Measured(tars.triggers(edited, asked), Divergence.logits(edited, texts));
      }
      Divergence divergence =
          heldOut == null
              ? null
              : Divergence.of(before.logits, after.logits, model.config().vocabularySize());
      if (texts.size() < all.size()) {
        System.err.printf(
            "halter: compared on the first %d of %d texts%n", texts.size(), all.size());
      }
      print(model, target, nearest, before, after, divergence);
      return 0;
    }
  }

  private List<int[]> texts(LanguageModel model) {
    List<int[]> texts = new ArrayList<>();
    if (heldOut != null) {
      TextFile.readUnmarked(heldOut)
          .lines()
          .filter(line -> !line.isBlank())
          .forEach(line -> texts.add(model.encode(line)));
      if (texts.isEmpty()) {
        throw new BadFileException(heldOut, "holds no text: it needs one a line");
      }
    }
    return texts;
  }

  private void print(
      LanguageModel model,
      Tars.Target target,
      List<Tars.Nearest> nearest,
      Measured before,
      Measured after,
      Divergence divergence) {
    List<String> asked = new ArrayList<>(prompts);
    asked.addAll(questions);
    List<Map<String, Object>> replaced = new ArrayList<>();
    List<Map<String, Object>> effects = new ArrayList<>();
    say(
        "target: triggers the concept with probability %.3f (hidden state %.3f, cosine %.2f)"
            .formatted(target.probability(), target.unrefined(), target.cosine()));
    say("%n%8s %-5s %9s  replaced by the reversed target".formatted("vector", "proj", "cosine"));
    for (Tars.Nearest edit : nearest) {
      String proj = edit.projection().name().toLowerCase(Locale.ROOT);
      replaced.add(
          Json.object(
              "proj", proj,
              "layer", edit.layer(),
              "neuron", edit.neuron(),
              "cosine", edit.cosine(),
              "norm", edit.norm()));
      if (replaced.size() <= SHOWN) {
        say("%8s %-5s %9.3f".formatted(edit.layer() + "." + edit.neuron(), proj, edit.cosine()));
      }
    }
    if (nearest.size() > SHOWN) {
      say(
          "and %d more, down to %.3f"
              .formatted(nearest.size() - SHOWN, nearest.getLast().cosine()));
    }
    say("%n%9s %9s  %-13s %-13s".formatted("before", "after", "says before", "says after"));
    for (int i = 0; i < asked.size(); i++) {
      Tars.Trigger was = before.triggers.get(i);
      Tars.Trigger is = after.triggers.get(i);
      String saidBefore = model.tokenizer().piece(was.topToken());
      String saysNow = model.tokenizer().piece(is.topToken());
      effects.add(
          Json.object(
              "prompt", asked.get(i),
              "before", was.probability(),
              "after", is.probability(),
              "top_token_before", saidBefore,
              "top_token_after", saysNow));
      say(
          "%9.4f %9.4f  %-13s %-13s %s"
              .formatted(
                  was.probability(),
                  is.probability(),
                  VisibleText.of(saidBefore),
                  VisibleText.of(saysNow),
                  asked.get(i)));
    }
    Map<String, Object> kl = null;
    if (divergence != null) {
      kl =
          Json.object(
              "tokens", divergence.tokens(),
              "mean", divergence.mean(),
              "median", divergence.median(),
              "max", divergence.max());
      say(
          "%nKL on %,d held-out tokens: median %.5f, mean %.5f, largest %.3f"
              .formatted(
                  divergence.tokens(), divergence.median(), divergence.mean(), divergence.max()));
    }
    say(out.toString());
    if (output.isJson()) {
      output.print(
          Json.object(
              "out",
              out.toString(),
              "target",
              Json.object(
                  "probability", target.probability(),
                  "unrefined_probability", target.unrefined(),
                  "cosine_to_hidden_state", target.cosine()),
              "edits",
              replaced,
              "prompts",
              effects,
              "kl",
              kl));
    }
  }

  private void say(String line) {
    if (!output.isJson()) {
      System.out.println(line);
    }
  }
}
