package dev.halter.cli.heads;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.WrongUseException;
import dev.halter.files.Json;
import dev.halter.files.WholeFile;
import dev.halter.heads.JointControl;
import dev.halter.heads.JointControl.Contested;
import dev.halter.heads.JointControl.Part;
import dev.halter.model.Head;
import dev.halter.patching.EffectsFile;
import dev.halter.steering.HeadControl;
import dev.halter.steering.Reach;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "combine",
    description = {
      "Makes one plan of several tasks' controls: their heads united.",
      "A head of several tasks goes to the one in which its effect is largest, or has all maps one",
      "after the other."
    })
final class CombineCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(
      names = "--controls",
      paramLabel = "F",
      split = ",",
      required = true,
      description = "Files of halter heads fit, one for each task.")
  List<Path> controls;

  @Option(
      names = "--effects",
      paramLabel = "F",
      split = ",",
      required = true,
      description = "Files of halter heads patch, for the same tasks in the same order.")
  List<Path> effects;

  @Option(
      names = "--strength",
      paramLabel = "X",
      split = ",",
      description = "Strength of each control (default: 1 for all).")
  List<Float> strengths;

  @Option(
      names = "--contested",
      paramLabel = "C",
      defaultValue = "effect",
      description =
          "What becomes of a head of several tasks: effect (the task of the larger effect) or"
              + " compose (default: ${DEFAULT-VALUE}).")
  String contested;

  @Option(
      names = "--at",
      paramLabel = "T",
      defaultValue = "answer",
      description =
          "Tokens that the plan acts on: answer (the prompt's last and the answer's), end (the"
              + " prompt's last) or all (default: ${DEFAULT-VALUE}).")
  String at;

  @Option(
      names = "--out",
      paramLabel = "F",
      required = true,
      description = "Plan to write, F.json; its maps go into F.safetensors.")
  Path out;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    OptionValue.requireOneOf("--contested", contested, "effect", "compose");
    Reach reach = OptionValue.of(Reach.class, "--at", at);
    int tasks = controls.size();
    if (tasks < 2) {
      throw new WrongUseException("--controls names " + tasks + " file, must be two or more");
    }
    if (effects.size() != tasks || strengths != null && strengths.size() != tasks) {
      throw new WrongUseException(
          "--effects, and --strength if given, need one for each of the %d controls"
              .formatted(tasks));
    }
    if (strengths != null && !strengths.stream().allMatch(Float::isFinite)) {
      throw new WrongUseException("--strength takes finite numbers");
    }
    String name = out.getFileName().toString();
    if (!name.endsWith(".json")) {
      throw new WrongUseException("--out is " + out + ", must end in .json");
    }
    ModelConfig config = ModelConfig.read(options.folder());
    List<Part> parts = new ArrayList<>();
    for (int i = 0; i < tasks; i++) {
      parts.add(
          new Part(
              HeadControl.read(controls.get(i), config),
              strengths == null ? 1 : strengths.get(i),
              EffectsFile.read(effects.get(i)).requireOf(config).heads()));
    }
    boolean compose = contested.equals("compose");
    JointControl joint =
        JointControl.of(parts, compose ? Contested.COMPOSE : Contested.LARGER_EFFECT);
    String maps = name.substring(0, name.length() - ".json".length()) + ".safetensors";
    joint.control().write(out.resolveSibling(maps));
    Map<String, Object> plan =
        Json.object(
            "name",
            String.join(" + ", controls.stream().map(file -> stem(file)).toList()),
            "interventions",
            List.of(Json.object("op", "head_affine", "file", maps, "strength", 1)));
    if (reach != Reach.ALL) {
      String generation = reach == Reach.ANSWER ? "all" : "none";
      plan.put("when", Json.object("prompt_positions", List.of(-1), "generation", generation));
    }
    WholeFile.write(out, text -> text.write(Json.text(plan) + "\n"));
    report(parts, joint);
    return 0;
  }

  private void report(List<Part> parts, JointControl joint) {
    List<Object> overlaps = new ArrayList<>();
    List<String> lines = new ArrayList<>();
    for (int i = 0; i < parts.size(); i++) {
      for (int j = i + 1; j < parts.size(); j++) {
        String first = stem(controls.get(i));
        String second = stem(controls.get(j));
        double share = JointControl.overlap(parts.get(i), parts.get(j));
        overlaps.add(Json.object("controls", List.of(first, second), "overlap", share));
        lines.add("%s and %s share %.0f%% of their heads".formatted(first, second, 100 * share));
      }
    }
    if (output.isJson()) {
      List<Object> shared = new ArrayList<>();
      for (Head head : joint.contested()) {
        shared.add(
            Json.object(
                "head", head.toString(),
                "controls",
                    joint.owners().get(head).stream().map(i -> stem(controls.get(i))).toList()));
      }
      output.print(
          Json.object(
              "heads",
              joint.owners().keySet().stream().map(Head::toString).toList(),
              "overlaps",
              overlaps,
              "contested",
              shared,
              "out",
              out.toString()));
      return;
    }
    System.out.printf("%d heads: %s%n", joint.owners().size(), out);
    lines.forEach(System.out::println);
    for (Head head : joint.contested()) {
      List<String> owners =
          joint.owners().get(head).stream().map(i -> stem(controls.get(i))).toList();
      System.out.printf("contested head %s: %s%n", head, String.join(", then ", owners));
    }
  }

  private static String stem(Path file) {
    return file.getFileName().toString().replaceFirst("\\.safetensors$", "");
  }
}
