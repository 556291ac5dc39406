package dev.halter.evaluation;

import dev.halter.evaluation.Claim.Figure;
import dev.halter.evaluation.ControlEvaluation.Choice;
import dev.halter.evaluation.ControlEvaluation.Report;
import dev.halter.evaluation.ControlEvaluation.Row;
import dev.halter.evaluation.ControlTask.Suite;
import dev.halter.steering.SteeringPlan;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;

/**
 * The claims of Xiao et al., Sparse Activation Control (arXiv 2411.02461). Its tables could not be
 * read: claims are as its abstract and captions state them, without numbers.
 */
public final class SacClaims {
  private static final String UNREAD = " (the tables' numbers could not be read)";

  private SacClaims() {}

  /** The claims, of what {@link ControlEvaluation} has measured. */
  public static List<Claim> of(Suite suite, Report report, int heads) {
    List<String> choices =
        List.of(
            "How many heads, which tokens, method and strength: chosen on training prompts among those"
                + " that cost little of other training questions (--cost), as are the baselines'"
                + " layers and scales; the paper's settings are not known to us.",
            "Maps of Gaussians of each head's z: mean shift, whitening and colouring, transport, or the"
                + " mean of the wanted side given the other.");
    List<Figure> few = new ArrayList<>();
    for (int i = 0; i < suite.tasks().size(); i++) {
      Choice choice = report.choices().get(i);
      few.add(
          Figure.whole("heads of " + choice.task(), (double) choice.heads().size() / heads, heads));
    }
    few.add(
        Figure.number(
            "mean overlap of two tasks' heads",
            report.overlaps().stream().mapToDouble(x -> x).average().orElse(Double.NaN),
            report.overlaps().size()));
    return List.of(
        Claim.tried(
            "Few heads carry a task, and tasks have different ones.",
            "Heads by path patching; overlap is of the heads chosen for each two tasks.",
            "Heads of different tasks are sparse and nearly disjoint (abstract)" + UNREAD + ".",
            choices,
            few),
        Claim.tried(
            "Controlling the heads of one task moves its behaviour.",
            "Share of wanted answers on test prompts, each task controlled alone.",
            "As good as RepE or better for single tasks (main tables)" + UNREAD + ".",
            List.of(),
            figures(
                suite,
                report,
                row ->
                    row.name().startsWith("heads for ") && !row.name().startsWith("heads for all")
                        || row.name().startsWith("RepE for ")
                        || row.name().equals(SteeringPlan.NONE.name()),
                true)),
        Claim.tried(
            "All tasks can be controlled at once, where directions fail.",
            "Share of wanted answers on test prompts, all tasks controlled together: \"%s\" is best on"
                    .formatted(report.joint())
                + " training prompts.",
            "Clearly better than RepE-Mean and RepE-Merge (main tables)" + UNREAD + ".",
            List.of(),
            figures(
                suite,
                report,
                row -> row.name().equals(report.joint()) || row.name().startsWith("RepE, "),
                true)),
        Claim.tried(
            "Random heads do not do it.",
            "The same maps fitted on as many heads that no task has.",
            "Worse than the heads found (table of component identification)" + UNREAD + ".",
            List.of(),
            figures(suite, report, row -> row.name().startsWith("random heads"), true)),
        Claim.tried(
            "The rest of the model stays as it is.",
            "Other questions that are answered rightly.",
            "MMLU and CSQA are kept (tables of general ability)" + UNREAD + ".",
            List.of("The suite's other questions stand for them."),
            figures(suite, report, row -> true, false)));
  }

  /** Rows' figures on the tasks, or on other questions. */
  private static List<Figure> figures(
      Suite suite, Report report, Predicate<Row> wanted, boolean ofTasks) {
    List<Figure> figures = new ArrayList<>();
    for (Row row : report.rows()) {
      if (!wanted.test(row)) {
        continue;
      }
      if (!ofTasks) {
        figures.add(Figure.share(row.name(), row.other(), suite.other().size()));
        continue;
      }
      for (int i = 0; i < suite.tasks().size(); i++) {
        ControlTask task = suite.tasks().get(i);
        figures.add(
            Figure.share(row.name() + ": " + task.name(), row.tasks()[i], task.test().size()));
      }
    }
    return figures;
  }
}
