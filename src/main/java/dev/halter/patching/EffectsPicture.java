package dev.halter.patching;

import dev.halter.pictures.HeatMap;
import dev.halter.pictures.HeatMap.Panel;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;

/** Effects of every head and MLP as a picture: layers down, heads across, MLPs beside them. */
public final class EffectsPicture {
  private EffectsPicture() {}

  /** Which of the effects is drawn. */
  public enum Value {
    /** Mean of Δ / reference logit, in percent. */
    RELATIVE,
    /** Mean of Δ, in logits. */
    DELTA_LOGIT
  }

  /** The picture of a file of effects. */
  public static HeatMap of(EffectsFile effects, Value value) {
    boolean relative = value == Value.RELATIVE;
    double factor = relative ? 100 : 1;
    double[][] heads = relative ? effects.heads() : effects.deltaLogit();
    double[] mlps = relative ? effects.mlps() : effects.mlpDeltaLogit();
    double[][] cells = new double[heads.length][];
    double[][] column = new double[heads.length][];
    for (int layer = 0; layer < heads.length; layer++) {
      cells[layer] = new double[heads[layer].length];
      for (int head = 0; head < heads[layer].length; head++) {
        cells[layer][head] = factor * heads[layer][head];
      }
      column[layer] = new double[] {factor * mlps[layer]};
    }
    List<String> layers = numbers(heads.length);
    String unit = relative ? "%" : "logits";
    int decimals = relative ? 1 : 2;
    return new HeatMap(
        "What each head and MLP does for the answer's logit",
        List.of(
            String.format(
                Locale.ROOT,
                "Path patching (%s), %,d pairs; %s; mean logit %.2f.",
                effects.variant(),
                effects.pairs(),
                relative ? "mean change in % of the logit" : "mean change of the logit",
                effects.referenceLogit()),
            // Divided by a negative logit, a fall has the other sign.
            (relative && effects.referenceLogit() < 0 ? "Orange" : "Blue")
                + ": the logit falls when the output comes from the counterfactual, so the answer"
                + " needs it."),
        List.of(
            new Panel(
                "Heads",
                "layer",
                "head",
                layers,
                numbers(heads[0].length),
                cells,
                true,
                unit,
                decimals),
            new Panel(
                "MLPs", "layer", "MLP", layers, List.of("MLP"), column, true, unit, decimals)));
  }

  private static List<String> numbers(int count) {
    return IntStream.range(0, count).mapToObj(Integer::toString).toList();
  }
}
