package dev.halter.cli;

import dev.halter.evaluation.RemovalEvaluation;
import dev.halter.evaluation.RemovalTask;
import dev.halter.generation.LanguageModel;
import java.nio.file.Path;
import java.util.List;
import java.util.function.Consumer;
import picocli.CommandLine.Option;

/** Which dictionary concepts are removed by. */
public final class RemovalOptions {
  @Option(
      names = "--dictionary",
      paramLabel = "D",
      description =
          "Concept dictionary of hook_resid_post (default: made of concepts/stimuli.jsonl of the"
              + " model's folder, all layers).")
  Path dictionary;

  /**
   * Tries every way to remove a task's concepts.
   *
   * @param modelFolder whose stimuli make a dictionary where none is named
   */
  public List<RemovalEvaluation.Row> evaluate(
      LanguageModel model, Path modelFolder, RemovalTask task, Consumer<String> progress) {
    return dictionary == null
        ? RemovalEvaluation.ofStimuli(
            model, modelFolder.resolve("concepts/stimuli.jsonl"), task, progress)
        : new RemovalEvaluation(model, dictionary, task).run(progress);
  }
}
