package dev.halter.cli;

import dev.halter.evaluation.Claim;
import dev.halter.evaluation.Claim.Figure;
import dev.halter.evaluation.Claim.Unit;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.scoring.Interval;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** A paper's claims, for people and as JSON. */
final class ClaimsOutput {
  private static final int WIDTH = 100;

  private ClaimsOutput() {}

  static void print(OutputOptions output, String paper, LanguageModel model, List<Claim> claims) {
    if (output.isJson()) {
      output.print(
          Json.object(
              "paper", paper,
              "model", model.folder().toAbsolutePath().normalize().getFileName().toString(),
              "fingerprint", model.llama().fingerprint(),
              "device", model.device().description(),
              "claims", claims.stream().map(ClaimsOutput::document).toList()));
      return;
    }
    System.out.println(paper);
    for (int i = 0; i < claims.size(); i++) {
      print(i + 1, claims.get(i));
    }
  }

  private static Object document(Claim claim) {
    List<Object> figures = new ArrayList<>();
    for (Figure figure : claim.figures()) {
      Interval value = figure.value();
      figures.add(
          Json.object(
              "name", figure.name(),
              "unit", figure.unit().name().toLowerCase(Locale.ROOT),
              "value", value.value(),
              "low", value.low(),
              "high", value.high(),
              "n", value.n()));
    }
    return Json.object(
        "claim", claim.claim(),
        "protocol", claim.protocol(),
        "paper", claim.paper(),
        "choices", claim.choices(),
        "figures", figures,
        "needs", claim.missing().isEmpty() ? null : claim.missing());
  }

  private static void print(int number, Claim claim) {
    System.out.printf("%n%d. %s%n", number, claim.claim());
    wrap("how", claim.protocol());
    wrap("paper", claim.paper());
    claim.choices().forEach(choice -> wrap("chosen", choice));
    if (!claim.missing().isEmpty()) {
      wrap("not tried", "it needs " + claim.missing());
    }
    int longest = claim.figures().stream().mapToInt(each -> each.name().length()).max().orElse(0);
    for (Figure figure : claim.figures()) {
      System.out.printf("   %-9s  %-" + longest + "s  %s%n", "here", figure.name(), text(figure));
    }
  }

  private static String text(Figure figure) {
    Interval value = figure.value();
    if (Double.isNaN(value.value())) {
      return "-";
    }
    boolean share = figure.unit() == Unit.SHARE;
    double unit = share ? 100 : 1;
    String format =
        share
            ? "%.1f"
            : Math.abs(value.value()) >= 1000 || value.value() == Math.rint(value.value())
                ? "%,.0f"
                : "%.4g";
    String number =
        format.formatted(unit * value.value())
            + (share ? " %" : figure.unit() == Unit.SECONDS ? " s" : "");
    return Double.isNaN(value.low())
        ? number + (share ? " of %,d".formatted(value.n()) : "")
        : number
            + (" [" + format + ", " + format + "] of %,d")
                .formatted(unit * value.low(), unit * value.high(), value.n());
  }

  /** A paragraph after its label, in lines of the page's width. */
  private static void wrap(String label, String text) {
    StringBuilder line = new StringBuilder("   %-9s ".formatted(label));
    for (String word : text.split(" ")) {
      if (line.length() + 1 + word.length() > WIDTH) {
        System.out.println(line);
        line = new StringBuilder(" ".repeat(13));
      }
      line.append(' ').append(word);
    }
    System.out.println(line);
  }
}
