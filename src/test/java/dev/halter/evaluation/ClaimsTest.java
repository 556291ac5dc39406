package dev.halter.evaluation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.evaluation.Claim.Figure;
import dev.halter.evaluation.ControlEvaluation.Choice;
import dev.halter.evaluation.ControlTask.Prompt;
import dev.halter.evaluation.RemovalTask.Item;
import dev.halter.evaluation.TuningEvaluation.Shares;
import dev.halter.heads.GaussianTransform.Method;
import dev.halter.model.Head;
import dev.halter.steering.Reach;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** What the claims of two papers make of what was measured. */
class ClaimsTest {
  private static double value(Claim claim, String name) {
    return claim.figures().stream()
        .filter(figure -> figure.name().equals(name))
        .findFirst()
        .orElseThrow()
        .value()
        .value();
  }

  @Test
  void removalOfConcepts() {
    List<Item> items = Collections.nCopies(40, new Item(null, null, null));
    RemovalTask task = new RemovalTask(List.of("harm"), "Do not.", List.of("x"), items, items);
    List<Claim> claims =
        PaceClaims.of(
            task,
            List.of(
                new RemovalEvaluation.Row("none", "", 1, 0, 30, 0.9, 0.01, "a"),
                new RemovalEvaluation.Row("OMP", "layers", 0.1, 0.8, 2, 0.85, 0.02, "b")));
    assertEquals(5, claims.size());
    assertEquals(0, value(claims.get(0), "none"));
    assertEquals(0.9, value(claims.get(0), "OMP"), 1e-12);
    Figure gone = claims.get(0).figures().get(1);
    assertEquals(20, gone.value().n(), "one half measures");
    assertTrue(gone.value().low() < 0.9 && gone.value().high() > 0.9);
    assertEquals(0.85, value(claims.get(1), "OMP: unrelated answers"));
    assertEquals(0.68, value(claims.get(2), "OMP"), 1e-12);
    assertEquals(0.02, value(claims.get(3), "OMP"));
    assertFalse(claims.get(4).missing().isEmpty());
    assertTrue(claims.stream().allMatch(claim -> claim.paper().contains("Table")));
  }

  @Test
  void controlOfHeads() {
    List<Prompt> prompts = Collections.nCopies(10, new Prompt("?", "s", null, null));
    ControlTask one = new ControlTask("one", "done", prompts, prompts);
    ControlTask two = new ControlTask("two", "done", prompts, prompts);
    ControlTask.Suite suite =
        new ControlTask.Suite(List.of(one, two), List.of(), List.of(), List.of());
    List<Head> heads = List.of(new Head(0, 1), new Head(1, 0));
    Choice choice = new Choice("one", heads, Reach.END, Method.MEAN, 1, 0, 1, 0);
    Choice other = new Choice("two", heads, Reach.END, Method.MEAN, 1, 0, 1, 0);
    List<ControlEvaluation.Row> rows =
        List.of(
            row("none", 0, 0.1),
            row("heads for one", 0.9, 0.1),
            row("heads for two", 0, 0.8),
            row("heads for all", 0.7, 0.7),
            row("random heads, draw 1", 0.1, 0),
            row("RepE for one", 0.6, 0),
            row("RepE, mean of directions", 0.2, 0.2));
    List<Claim> claims =
        SacClaims.of(
            suite,
            new ControlEvaluation.Report(
                List.of(choice, other), List.of(0.5), heads, List.of(), "heads for all", rows),
            16);
    assertEquals(2 / 16.0, value(claims.get(0), "heads of one"));
    assertEquals(0.5, value(claims.get(0), "mean overlap of two tasks' heads"));
    assertEquals(0.9, value(claims.get(1), "heads for one: one"));
    assertEquals(0.1, value(claims.get(1), "none: two"));
    assertEquals(8, claims.get(1).figures().size(), "none, two controls, RepE, on two tasks");
    assertEquals(0.7, value(claims.get(2), "heads for all: two"));
    assertEquals(0.2, value(claims.get(2), "RepE, mean of directions: one"));
    assertEquals(4, claims.get(2).figures().size());
    assertEquals(2, claims.get(3).figures().size());
    assertEquals(rows.size(), claims.get(4).figures().size());
  }

  @Test
  void tuningOfHeads() {
    List<Head> heads = List.of(new Head(0, 1));
    Shares before = new Shares(0, 1, Map.of("places", 0.9, "animals", 0.7), 2);
    Shares after = new Shares(0.4, 0.9, Map.of("places", 0.5, "animals", 0.7), 3);
    List<Figure> figures =
        ArithmeticClaims.figures(
            new TuningEvaluation.Report(
                20,
                List.of(),
                400,
                200,
                before,
                List.of(
                    new TuningEvaluation.Row(
                        "1 heads", heads, List.of(), 100, List.of(1e-3), after))),
            60);
    assertEquals(
        List.of(
            "untuned: new sums",
            "untuned: other questions",
            "1 heads: new sums",
            "1 heads: other questions"),
        figures.stream().map(Figure::name).toList());
    assertEquals(0, figures.get(0).value().value());
    assertEquals(0.8, figures.get(1).value().value(), 1e-12);
    assertEquals(0.4, figures.get(2).value().value());
    assertEquals(200, figures.get(2).value().n());
    assertEquals(0.6, figures.get(3).value().value(), 1e-12);
    assertEquals(60, figures.get(3).value().n());
  }

  /** A model folder without other questions: there is nothing that tuning could cost. */
  @Test
  void tuningOfHeadsWithoutOtherQuestions() {
    Shares shares = new Shares(0.5, 1, Map.of(), Double.NaN);
    List<Figure> figures =
        ArithmeticClaims.figures(
            new TuningEvaluation.Report(20, List.of(), 400, 200, shares, List.of()), 0);
    assertEquals(0.5, figures.get(0).value().value());
    assertTrue(Double.isNaN(figures.get(1).value().value()));
  }

  private static ControlEvaluation.Row row(String name, double one, double two) {
    return new ControlEvaluation.Row(name, new double[] {one, two}, 0.9, 2);
  }
}
