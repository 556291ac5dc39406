package dev.halter.evaluation;

import dev.halter.evaluation.Claim.Figure;
import dev.halter.evaluation.RemovalEvaluation.Row;
import java.util.ArrayList;
import java.util.List;

/**
 * The claims of Luo et al., PaCE (arXiv 2406.04331), put to a model by a task that says which
 * behaviour goes with which concepts. The numbers of the paper are read in it.
 */
public final class PaceClaims {
  private PaceClaims() {}

  /** The claims, of what {@link RemovalEvaluation} has measured. */
  public static List<Claim> of(RemovalTask task, List<Row> rows) {
    int behaviour = task.behaviour().size() / 2;
    int unrelated = task.unrelated().size() / 2;
    List<Figure> gone = new ArrayList<>();
    List<Figure> kept = new ArrayList<>();
    List<Figure> both = new ArrayList<>();
    List<Figure> times = new ArrayList<>();
    for (Row row : rows) {
      gone.add(Figure.share(row.method(), 1 - row.behaviour(), behaviour));
      kept.add(Figure.share(row.method() + ": unrelated answers", row.unrelated(), unrelated));
      kept.add(Figure.number(row.method() + ": perplexity", row.perplexity(), behaviour));
      both.add(Figure.number(row.method(), row.plain() * row.unrelated(), behaviour + unrelated));
      times.add(Figure.seconds(row.method(), row.tokenSeconds(), behaviour + unrelated));
    }
    List<String> halves =
        List.of(
            "The paper has one fixed setting of each method: here layers and strength are chosen on"
                + " one half of the questions, by plain and unrelated answers together.",
            "One direction for addition and projection: the unit sum of the removed atoms.",
            "Codes are made at every token (Algorithm 3; appendix B.4 says once).",
            "OMP of 16 atoms where the paper has 50 to 200, for 4,096 dimensions.");
    String concepts = String.join(", ", task.remove());
    return List.of(
        Claim.tried(
            "Removing the concepts takes the behaviour away.",
            "Share of answers without the behaviour of \"%s\", on the half that nothing was chosen by."
                .formatted(concepts),
            "Safety of LLaMA2-7B on SafeEdit, mean of nine kinds: vanilla 15.0 %, PaCE 72.0 %; 13B"
                + " 16.6 and 96.5 % (Table 1, means ours).",
            halves,
            gone),
        Claim.tried(
            "The model keeps its linguistic capability.",
            "Unrelated questions that are still answered rightly, and perplexity of the answers to the"
                + " unsteered model.",
            "MMLU of 7B 43.4 to 37.1 %, of 13B 54.9 to 54.1 %; perplexity 3.51 to 3.52 and 2.48 to"
                + " 2.85; prompting takes MMLU of 7B to 15.4 % (Table 1).",
            List.of("The task's unrelated questions stand for MMLU."),
            kept),
        Claim.tried(
            "No baseline does both as well.",
            "Product of the shares of plain answers where the behaviour was and of unrelated answers.",
            "Of 13B PaCE is best in all nine kinds of safety, and beside vanilla in MMLU (Table 1); of"
                + " 7B another method is better in three.",
            List.of("The product is ours."),
            both),
        Claim.tried(
            "It costs little time.",
            "Time for each token of all answers in one batch on this device.",
            "Seconds a token of 7B: vanilla 0.041, addition 0.062, projection 0.514, PaCE 0.119"
                + " (Table 2).",
            List.of("Many requests at once; the paper has one."),
            times),
        Claim.untried(
            "Faithfulness and sentiment improve likewise.",
            "The same with concepts and questions of those tasks.",
            "7B: supported facts by FActScore (LS) 18.4 to 27.7 %, sentiment that is not negative about"
                + " gender (GN) 51.5 to 66.2 % (Table 4).",
            "a task of them, --removal F, in the shape of the one that ran"));
  }
}
