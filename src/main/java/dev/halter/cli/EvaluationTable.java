package dev.halter.cli;

import dev.halter.evaluation.Arm.Kind;
import dev.halter.evaluation.PlanEvaluation.Report;
import dev.halter.evaluation.PlanEvaluation.Row;
import dev.halter.evaluation.PlanEvaluation.Scored;
import dev.halter.evaluation.Score;
import dev.halter.evaluation.Task;
import dev.halter.scoring.Interval;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;

/** An evaluation of plans, for people: a row an arm, then what the plans did in words. */
final class EvaluationTable {
  private static final int LONGEST_NAME = 28;

  private final Report report;

  EvaluationTable(Report report) {
    this.report = report;
  }

  void print() {
    for (Task task : report.tried().tasks()) {
      System.out.printf(
          "%s: %s of %,d items%s%n",
          task.name(),
          measure(task),
          task.items().size(),
          task.score() instanceof Score.Texts
              ? ""
              : task.more() ? ", more is wanted" : ", less is wanted");
    }
    System.out.printf(
        "%s; intervals of 95 %%%n%n",
        report.tried().isHalved()
            ? "doses (*) chosen on every second item, figures of the others"
            : "figures of all items");
    List<List<String>> lines = new ArrayList<>();
    lines.add(head());
    report.rows().forEach(row -> lines.add(line(row)));
    print(lines);
    report.rows().stream().filter(this::isTold).forEach(this::tell);
    if (report.tried().isHalved()) {
      report.tried().plans().forEach(plan -> tellUnchosen(plan.name()));
    }
  }

  private void tellUnchosen(String plan) {
    boolean chosen =
        report.rows().stream().anyMatch(row -> row.chosen() && row.arm().plan().equals(plan));
    if (!chosen) {
      System.out.printf("%nno dose of %s is chosen: no answer to tell by has a score%n", plan);
    }
  }

  private static String measure(Task task) {
    return task.measures().name().toLowerCase(Locale.ROOT) + ", " + task.score().unit();
  }

  private List<String> head() {
    List<String> head = new ArrayList<>(List.of("", "dose"));
    report.tried().tasks().forEach(task -> head.add(task.name()));
    head.addAll(List.of("perplexity", "entropy", "distinct-2", "KL", "same"));
    return head;
  }

  private List<String> line(Row row) {
    List<String> line = new ArrayList<>();
    line.add(name(row));
    line.add(
        Double.isNaN(row.arm().dose()) ? "-" : dose(row.arm().dose()) + (row.chosen() ? "*" : " "));
    for (Scored scored : row.scores()) {
      String unscored = scored.unscored() == 0 ? "" : ", %,d unscored".formatted(scored.unscored());
      line.add(text(scored.task(), scored.score(), false) + unscored);
    }
    line.add(number(row.perplexity().value(), "%.2f"));
    line.add(number(row.entropy().value(), "%.2f"));
    line.add(number(row.distinct().get(1).value(), "%.2f"));
    line.add(number(row.distance().value(), "%.3f"));
    line.add("%,d/%,d".formatted(row.same(), row.items()));
    return line;
  }

  private static String name(Row row) {
    String name =
        switch (row.arm().kind()) {
          case NONE -> "no plan";
          case PROMPTING -> "told: " + row.arm().prompting();
          case PLAN -> row.arm().plan();
          case RANDOM -> "random, for " + row.arm().plan();
        };
    return name.length() > LONGEST_NAME ? name.substring(0, LONGEST_NAME - 1) + "…" : name;
  }

  private static String dose(double dose) {
    return dose == Math.rint(dose) ? "%.0f".formatted(dose) : Double.toString(dose);
  }

  private static String number(double value, String format) {
    return Double.isNaN(value) ? "-" : format.formatted(value);
  }

  /** A figure and its interval; shares in percent. */
  private static String text(Task task, Interval interval, boolean signed) {
    boolean share = task.score() instanceof Score.Share;
    String format = (signed ? "%+" : "%") + (share ? ".1f" : ".2f");
    double unit = share ? 100 : 1;
    return interval.n() == 0
        ? "-"
        : (format + " [" + format + ", " + format + "]")
            .formatted(unit * interval.value(), unit * interval.low(), unit * interval.high());
  }

  private static void print(List<List<String>> lines) {
    int columns = lines.getFirst().size();
    int[] widths = new int[columns];
    for (List<String> line : lines) {
      for (int i = 0; i < columns; i++) {
        widths[i] = Math.max(widths[i], line.get(i).length());
      }
    }
    for (List<String> line : lines) {
      StringBuilder text = new StringBuilder(("%-" + widths[0] + "s").formatted(line.getFirst()));
      for (int i = 1; i < columns; i++) {
        text.append(("  %" + widths[i] + "s").formatted(line.get(i)));
      }
      System.out.println(text.toString().stripTrailing());
    }
  }

  private boolean isTold(Row row) {
    return row.arm().kind() == Kind.PLAN && (row.chosen() || !report.tried().isHalved());
  }

  /** How a plan's scores differ from those without one. */
  private void tell(Row row) {
    String name = "%s at %s".formatted(row.arm().plan(), dose(row.arm().dose()));
    String differences =
        row.scores().stream()
            .filter(each -> each.difference().n() > 0)
            .map(each -> each.task().name() + " " + text(each.task(), each.difference(), true))
            .collect(Collectors.joining("; "));
    System.out.printf(
        "%n%s, difference from no plan: %s%n", name, differences.isEmpty() ? "-" : differences);
    if (row.isIdle()) {
      System.out.printf(
          "%s changes nothing here: %,d of %,d answers are those without a plan, and KL is 0%n",
          name, row.same(), row.items());
    } else if (row.isUntold()) {
      System.out.printf(
          "%s cannot be told from no plan by these items: every interval holds 0%n", name);
    }
  }
}
