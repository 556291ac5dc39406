package dev.halter.patching;

import dev.halter.pictures.HeatMap;
import dev.halter.pictures.HeatMap.Panel;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.OptionalDouble;
import java.util.stream.IntStream;

/**
 * Effects of every head and MLP as a picture: layers down, heads across, MLPs beside them.
 *
 * <p>Heads and MLPs have one colour scale. Both are changes of the same logit, so the question that
 * a reader brings is which of all senders matter; with a scale each, the strongest of weak heads
 * would look like the strongest MLP, whatever the legends say. Where a few MLPs leave the heads
 * pale, {@code limit} ends the scale earlier: values beyond have its last colour and keep their
 * number, and the legend says so. The same limit makes two pictures comparable.
 */
public final class EffectsPicture {
  private EffectsPicture() {}

  /** Which of the effects is drawn. */
  public enum Value {
    /** Mean of Δ / reference logit, in percent. */
    RELATIVE("mean change in % of the logit", "%", 1, 100),
    /** Mean of Δ, in logits. */
    DELTA_LOGIT("mean change of the logit", "logits", 2, 1);

    private final String words;
    private final String unit;
    private final int decimals;
    private final double factor;

    Value(String words, String unit, int decimals, double factor) {
      this.words = words;
      this.unit = unit;
      this.decimals = decimals;
      this.factor = factor;
    }

    private HeatMap.Scale scale(List<Panel> panels, OptionalDouble limit) {
      return limit.isPresent()
          ? new HeatMap.Scale(true, unit, decimals, limit.getAsDouble())
          : HeatMap.Scale.of(true, unit, decimals, panels);
    }

    private double[][] scaled(double[][] values) {
      return Arrays.stream(values)
          .map(row -> Arrays.stream(row).map(value -> factor * value).toArray())
          .toArray(double[][]::new);
    }

    /** Which colour means that the answer needs what was patched. */
    private String needed(double referenceLogit) {
      // Divided by a negative logit, a fall has the other sign.
      return this == RELATIVE && referenceLogit < 0 ? "Orange" : "Blue";
    }
  }

  /**
   * The picture of a file of effects.
   *
   * @param limit the end of the scale, in % or logits; empty for the largest effect
   */
  public static HeatMap of(EffectsFile effects, Value value, OptionalDouble limit) {
    boolean relative = value == Value.RELATIVE;
    double[][] heads = relative ? effects.heads() : effects.deltaLogit();
    double[] mlps = relative ? effects.mlps() : effects.mlpDeltaLogit();
    double[][] column =
        Arrays.stream(mlps).mapToObj(mlp -> new double[] {mlp}).toArray(double[][]::new);
    List<String> layers = numbers(heads.length);
    List<Panel> panels =
        List.of(
            new Panel(
                "Heads", "layer", "head", layers, numbers(heads[0].length), value.scaled(heads)),
            new Panel("MLPs", "layer", "MLP", layers, List.of("MLP"), value.scaled(column)));
    return new HeatMap(
        "What each head and MLP does for the answer's logit",
        List.of(
            "Path patching (%s), %s"
                .formatted(
                    effects.variant(), measured(effects.pairs(), value, effects.referenceLogit())),
            value.needed(effects.referenceLogit())
                + ": the logit falls when the output comes from the counterfactual, so the answer"
                + " needs it."),
        value.scale(panels, limit),
        panels);
  }

  /**
   * The picture of a grid: layers down, or a panel for each layer with its heads down; tokens
   * across, by their positions from the end.
   *
   * @param limit as above
   */
  public static HeatMap of(GridFile grid, Value value, OptionalDouble limit) {
    double[][][] values = value == Value.RELATIVE ? grid.relative() : grid.deltaLogit();
    List<Panel> panels = new ArrayList<>();
    if (grid.perHead()) {
      for (int layer = 0; layer < values.length; layer++) {
        List<String> heads = numbers(values[layer].length);
        double[][] cells = value.scaled(values[layer]);
        panels.add(new Panel("Layer " + layer, "head", "position", heads, grid.columns(), cells));
      }
    } else {
      double[][] cells =
          value.scaled(Arrays.stream(values).map(heads -> heads[0]).toArray(double[][]::new));
      List<String> layers = numbers(values.length);
      panels.add(new Panel(grid.site(), "layer", "position", layers, grid.columns(), cells));
    }
    return new HeatMap(
        "What %s%s does for the answer's logit, token by token"
            .formatted(grid.site(), grid.perHead() ? " of each head" : ""),
        List.of(
            "Activation patching, "
                + measured(grid.pairs(), value, grid.referenceLogit())
                + " Positions count from the prompt's end and show the token that all pairs have.",
            value.needed(grid.referenceLogit())
                + ": the logit falls when the value comes from the counterfactual, so the answer"
                + " needs it."),
        value.scale(panels, limit),
        panels);
  }

  private static String measured(int pairs, Value value, double referenceLogit) {
    return String.format(
        Locale.ROOT,
        "%,d pair%s; %s; mean logit %.2f.",
        pairs,
        pairs == 1 ? "" : "s",
        value.words,
        referenceLogit);
  }

  private static List<String> numbers(int count) {
    return IntStream.range(0, count).mapToObj(Integer::toString).toList();
  }
}
