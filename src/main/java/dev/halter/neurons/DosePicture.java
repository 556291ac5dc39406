package dev.halter.neurons;

import dev.halter.model.Site;
import dev.halter.pictures.LineChart;
import dev.halter.text.VisibleText;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.function.IntFunction;
import java.util.stream.Collectors;

/** A dose-response curve as a picture: value of a neuron across, probability of a token up. */
public final class DosePicture {
  private DosePicture() {}

  /**
   * The picture of what {@link DoseResponse} has measured.
   *
   * @param site where the neuron was clamped
   * @param words whose probability was measured, as they were asked for
   * @param prompt that was read
   * @param unsteered the effect of no clamp
   * @param clamps in any order, at least one
   * @param pieces the text of a token
   */
  public static LineChart of(
      Site site,
      int neuron,
      List<String> words,
      String prompt,
      DoseResponse.Effect unsteered,
      List<Verification.Clamp> clamps,
      IntFunction<String> pieces) {
    String concept =
        words.stream().map(word -> "“" + word + "”").collect(Collectors.joining(" or "));
    List<LineChart.Point> points =
        clamps.stream()
            .sorted(Comparator.comparingDouble(Verification.Clamp::value))
            .map(clamp -> point(clamp, pieces))
            .toList();
    return new LineChart(
        "Neuron %d.%d and the probability of %s".formatted(site.layer(), neuron, concept),
        List.of("Prompt: " + prompt),
        "%s of neuron %d, held at every token".formatted(site.name(), neuron),
        "probability of %s as the next token".formatted(concept),
        points,
        unsteered.probability(),
        String.format(Locale.ROOT, "unsteered: %.4f", unsteered.probability()));
  }

  private static LineChart.Point point(Verification.Clamp clamp, IntFunction<String> pieces) {
    double probability = clamp.effect().probability();
    String next = VisibleText.of(pieces.apply(clamp.effect().topToken()));
    return new LineChart.Point(
        clamp.value(),
        probability,
        String.format(
            Locale.ROOT,
            "held at %.4g: probability %.4f, next token %s",
            clamp.value(),
            probability,
            next));
  }
}
