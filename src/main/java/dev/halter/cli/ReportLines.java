package dev.halter.cli;

import dev.halter.steering.SteeringReport;
import java.util.ArrayList;
import java.util.List;

/** A steering report for people. */
final class ReportLines {
  private static final int MOST_NAMED = 8;

  private ReportLines() {}

  /** A line for each intervention, then one for each note. */
  static List<String> of(SteeringReport report) {
    List<String> lines = new ArrayList<>();
    for (SteeringReport.Entry entry : report.interventions()) {
      lines.add(
          "steered %s at %s: %d tokens, mean change %.3g%s"
              .formatted(
                  entry.op(), entry.site(), entry.tokens(), entry.meanChange(), removed(entry)));
    }
    report.notes().forEach(note -> lines.add("note: " + note));
    return lines;
  }

  /** The atoms that a removal took out, those of most tokens first. */
  private static String removed(SteeringReport.Entry entry) {
    if (entry.concepts() == null) {
      return "";
    }
    List<SteeringReport.Removed> atoms = entry.concepts().removed();
    String named =
        String.join(
            ", ",
            atoms.stream()
                .limit(MOST_NAMED)
                .map(
                    atom ->
                        "%s (%d of %d codes, mean coefficient %.3g)"
                            .formatted(
                                atom.name(),
                                atom.tokens(),
                                entry.concepts().solved(),
                                atom.meanCoefficient()))
                .toList());
    return "; removed "
        + (atoms.isEmpty() ? "no atom" : named)
        + (atoms.size() > MOST_NAMED ? " and %,d more".formatted(atoms.size() - MOST_NAMED) : "");
  }
}
