package dev.halter.concepts;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.concepts.ControlVectorFit.Length;
import dev.halter.concepts.ControlVectorFit.Method;
import dev.halter.concepts.ControlVectorFit.Separation;
import dev.halter.concepts.ControlVectorFit.SiteFit;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.model.Capture;
import dev.halter.model.Site;
import dev.halter.weights.Safetensors;
import dev.halter.weights.TensorView;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalDouble;
import org.apache.commons.math3.linear.Array2DRowRealMatrix;
import org.apache.commons.math3.linear.MatrixUtils;
import org.apache.commons.math3.linear.RealMatrix;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class ControlVectorFitTest {
  private static final Path GOLDENS = Path.of("src/test/resources/control-vectors");
  private static final Site SITE = new Site(Site.Kind.RESID_POST, 1);

  /** What repeng makes of the same activations, more pairs than values and fewer of them. */
  @ParameterizedTest
  @ValueSource(strings = {"", "few_"})
  void aPrincipalComponentIsRepengs(String sides) {
    try (Safetensors golden = Safetensors.open(GOLDENS.resolve("sides.safetensors"))) {
      SiteFit fit =
          ControlVectorFit.fit(
              SITE,
              Method.PCA,
              Length.UNIT,
              matrix(golden.tensor(sides + "positive")),
              matrix(golden.tensor(sides + "negative")));
      assertArrayEquals(golden.tensor(sides + "pca").toFloats(), fit.direction(), 1e-6f);
      assertEquals(1, fit.norm(), 1e-6);
      assertEquals(
          golden.tensor(sides + "explained").toFloats()[0], fit.explained().orElseThrow(), 1e-6);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "few_"})
  void aMeanIsTheDifferenceOfTheSides(String sides) {
    try (Safetensors golden = Safetensors.open(GOLDENS.resolve("sides.safetensors"))) {
      SiteFit fit =
          ControlVectorFit.fit(
              SITE,
              Method.MEAN,
              Length.GAP,
              matrix(golden.tensor(sides + "positive")),
              matrix(golden.tensor(sides + "negative")));
      assertArrayEquals(golden.tensor(sides + "mean").toFloats(), fit.direction(), 1e-6f);
      assertEquals(OptionalDouble.empty(), fit.explained());
    }
  }

  private static RealMatrix matrix(TensorView tensor) {
    int columns = (int) tensor.size(1);
    float[] values = tensor.toFloats();
    RealMatrix matrix = new Array2DRowRealMatrix(values.length / columns, columns);
    for (int i = 0; i < values.length; i++) {
      matrix.setEntry(i / columns, i % columns, values[i]);
    }
    return matrix;
  }

  private static RealMatrix rows(double[]... rows) {
    return MatrixUtils.createRealMatrix(rows);
  }

  /** Means (3, 0) and (1, 0): 2 apart along the first value, whatever the second one does. */
  private static final RealMatrix POSITIVE = rows(row(2, 1), row(2, -1), row(5, 0));

  private static final RealMatrix NEGATIVE = rows(row(0, 3), row(0.5, -3), row(2.5, 0));

  private static double[] row(double... values) {
    return values;
  }

  @ParameterizedTest
  @CsvSource({"GAP, 2", "UNIT, 1"})
  void aDirectionIsAsLongAsIsAskedFor(Length length, double norm) {
    SiteFit fit = ControlVectorFit.fit(SITE, Method.MEAN, length, POSITIVE, NEGATIVE);
    assertArrayEquals(new float[] {(float) norm, 0}, fit.direction(), 1e-6f);
    assertEquals(norm, fit.norm(), 1e-6);
    assertEquals(2, fit.gap(), 1e-9);
    assertEquals(2 * norm, fit.threshold(), 1e-6);
    double norms = 2 * Math.sqrt(5) + 5 + 3 + Math.hypot(0.5, 3) + 2.5;
    assertEquals(norms / 6, fit.activationNorm(), 1e-9);
  }

  /** Of nine couples 2 < 2.5 twice; only 2.5 and the two twos lie on the wrong side of 2. */
  @Test
  void separationCountsCouplesInOrderAndPromptsOnTheirSide() {
    SiteFit fit = ControlVectorFit.fit(SITE, Method.MEAN, Length.UNIT, POSITIVE, NEGATIVE);
    assertEquals(new Separation(7 / 9.0, 3 / 6.0), fit.fitted());
  }

  @EnumSource
  @ParameterizedTest
  void sidesThatAreTheSameHaveNoDirection(Method method) {
    var error =
        assertThrows(
            IllegalArgumentException.class,
            () -> ControlVectorFit.fit(SITE, method, Length.GAP, POSITIVE, POSITIVE.copy()));
    assertEquals(
        "blocks.1.hook_resid_post: the positive and the negative prompts leave the same activations"
            + " there",
        error.getMessage());
  }

  @Test
  void aComponentAlongWhichTheMeansAreTheSameIsNoDirection() {
    RealMatrix positive = rows(row(0, 9), row(0, -9), row(1, 9), row(1, -9));
    RealMatrix negative = rows(row(0, 0), row(0, 0), row(0, 0), row(0, 0));
    var error =
        assertThrows(
            IllegalArgumentException.class,
            () -> ControlVectorFit.fit(SITE, Method.PCA, Length.GAP, positive, negative));
    assertTrue(error.getMessage().contains("or take mean"), error.getMessage());
    SiteFit mean = ControlVectorFit.fit(SITE, Method.MEAN, Length.GAP, positive, negative);
    assertArrayEquals(new float[] {0.5f, 0}, mean.direction(), 1e-6f);
  }

  @Test
  void activationsThatAreNotFiniteAreAnError() {
    RealMatrix broken = rows(row(2, 1), row(Double.NaN, 0), row(1, 1));
    var error =
        assertThrows(
            IllegalArgumentException.class,
            () -> ControlVectorFit.fit(SITE, Method.MEAN, Length.GAP, broken, NEGATIVE));
    assertTrue(error.getMessage().contains("not finite"), error.getMessage());
  }

  /** Against the activations as they are captured, prompt by prompt. */
  @Test
  void aModelsVectorIsMadeOfItsLastTokensActivations() {
    try (LanguageModel model = LanguageModel.open(Path.of("src/main/models/demo"))) {
      List<Site> sites = List.of(new Site(Site.Kind.RESID_MID, 0), SITE);
      List<int[]> positive =
          List.of(model.encode("The dog barks"), model.encode("A happy dog"), model.encode("dog"));
      List<int[]> negative = List.of(model.encode("The cat"), model.encode("One old cat sleeps"));
      ControlVectorFit fit =
          new ControlVectorFit(model, sites, Method.MEAN, Length.GAP, positive, negative);
      for (SiteFit made : fit.fits()) {
        double[] expected = new double[model.config().dModel()];
        for (float[] row : last(model, made.site(), positive)) {
          for (int i = 0; i < expected.length; i++) {
            expected[i] += row[i] / 3.0;
          }
        }
        for (float[] row : last(model, made.site(), negative)) {
          for (int i = 0; i < expected.length; i++) {
            expected[i] -= row[i] / 2.0;
          }
        }
        for (int i = 0; i < expected.length; i++) {
          assertEquals(expected[i], made.direction()[i], 1e-5, made.site() + " " + i);
        }
      }
      assertNotEquals(fit.fits().getFirst().norm(), fit.fits().getLast().norm());
      assertEquals(
          fit.fits().stream().map(SiteFit::fitted).toList(), fit.separation(positive, negative));
      Separation swapped = fit.separation(negative, positive).getLast();
      Separation fitted = fit.fits().getLast().fitted();
      assertEquals(1 - fitted.auc(), swapped.auc(), 1e-9);
      assertEquals(1 - fitted.accuracy(), swapped.accuracy(), 1e-9);
    }
  }

  private static List<float[]> last(LanguageModel model, Site site, List<int[]> prompts) {
    List<float[]> rows = new ArrayList<>();
    for (int[] prompt : prompts) {
      Capture capture = new Capture(model.config(), List.of(site), prompt.length);
      model.generate(Request.of(prompt).withMaxTokens(0).with(capture));
      rows.add(capture.at(site, -1));
    }
    return rows;
  }
}
