package dev.halter.heads;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.JsonObject;
import dev.halter.heads.GaussianTransform.Gaussian;
import dev.halter.heads.GaussianTransform.Method;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import org.apache.commons.math3.linear.MatrixUtils;
import org.apache.commons.math3.linear.RealMatrix;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class GaussianTransformTest {
  private static final Path GOLDEN = Path.of("src/test/resources/head-controls/maps.json");

  /** A covariance of full rank. */
  private static RealMatrix covariance(int d, long seed) {
    Random random = new Random(seed);
    RealMatrix mix = MatrixUtils.createRealMatrix(d, d);
    for (int row = 0; row < d; row++) {
      for (int column = 0; column < d; column++) {
        mix.setEntry(row, column, random.nextGaussian());
      }
    }
    return mix.multiply(mix.transpose()).add(MatrixUtils.createRealIdentityMatrix(d));
  }

  private static Gaussian gaussian(RealMatrix covariance, long seed) {
    double[] mean = new Random(seed).doubles(covariance.getRowDimension(), -2, 2).toArray();
    return new Gaussian(100, mean, covariance);
  }

  private static void assertClose(RealMatrix expected, RealMatrix actual) {
    assertEquals(0, expected.subtract(actual).getNorm(), 1e-9 * expected.getNorm());
  }

  @Test
  void mapsEqualNumpys() {
    for (JsonObject golden : JsonObject.read(GOLDEN).objects("cases")) {
      double rho = golden.number("shrinkage", 0, 1);
      Gaussian negative = Gaussian.of(samples(golden, "negative")).shrunk(rho);
      Gaussian positive = Gaussian.of(samples(golden, "positive")).shrunk(rho);
      for (Method method : List.of(Method.MEAN, Method.WHITEN, Method.TRANSPORT)) {
        GaussianTransform map = GaussianTransform.of(negative, positive, method);
        JsonObject expected = golden.object("maps").object(method.name().toLowerCase(Locale.ROOT));
        double[][] a = matrix(expected.value("a"));
        for (int row = 0; row < a.length; row++) {
          assertArrayEquals(a[row], map.a().getRow(row), 1e-8, method + ", row " + row);
        }
        assertArrayEquals(numbers(expected.value("b")), map.b(), 1e-8, method.toString());
      }
    }
  }

  private static List<float[]> samples(JsonObject json, String key) {
    List<float[]> samples = new ArrayList<>();
    for (double[] row : matrix(json.value(key))) {
      float[] sample = new float[row.length];
      for (int i = 0; i < row.length; i++) {
        sample[i] = (float) row[i];
      }
      samples.add(sample);
    }
    return samples;
  }

  private static double[][] matrix(Object value) {
    return ((List<?>) value).stream().map(row -> numbers(row)).toArray(double[][]::new);
  }

  private static double[] numbers(Object value) {
    return ((List<?>) value).stream().mapToDouble(x -> ((Number) x).doubleValue()).toArray();
  }

  @ParameterizedTest
  @EnumSource(mode = EnumSource.Mode.EXCLUDE, names = "PAIRS")
  void theNegativeMeanBecomesThePositiveOne(Method method) {
    Gaussian negative = gaussian(covariance(7, 1), 2);
    Gaussian positive = gaussian(covariance(7, 3), 4);
    GaussianTransform map = GaussianTransform.of(negative, positive, method);
    double[] moved = map.a().operate(negative.mean());
    for (int i = 0; i < moved.length; i++) {
      assertEquals(positive.mean()[i], moved[i] + map.b()[i], 1e-9);
    }
  }

  /**
   * Samples of two tasks of which one wants the last number raised by the first, the other lowered
   * by the second: [x, y, z] → [x, y, x − y]. What is there already stays.
   */
  @Test
  void pairsOfSeveralTasksHaveOneMapAndOthersDoNot() {
    Random random = new Random(3);
    List<float[]> negative = new ArrayList<>();
    List<float[]> positive = new ArrayList<>();
    for (int i = 0; i < 20; i++) {
      float[] at = {i % 2 * 4 + random.nextFloat(), 4 - i % 2 * 4 + random.nextFloat(), 0};
      at[2] = random.nextFloat();
      negative.add(at);
      positive.add(new float[] {at[0], at[1], at[0] - at[1]});
    }
    GaussianTransform map = GaussianTransform.of(negative, positive, Method.PAIRS, 0);
    double[][] projection = {{1, 0, 0}, {0, 1, 0}, {1, -1, 0}};
    for (int row = 0; row < 3; row++) {
      assertArrayEquals(projection[row], map.a().getRow(row), 1e-5, "row " + row);
    }
    assertArrayEquals(new double[3], map.b(), 1e-5);
    GaussianTransform transport = GaussianTransform.of(negative, positive, Method.TRANSPORT, 0);
    double worst = 0;
    for (int i = 0; i < negative.size(); i++) {
      double[] z = {negative.get(i)[0], negative.get(i)[1], negative.get(i)[2]};
      double moved = transport.a().operate(z)[2] + transport.b()[2];
      worst = Math.max(worst, Math.abs(moved - positive.get(i)[2]));
    }
    assertTrue(worst > 0.1, "transport knows no pairs: " + worst);
  }

  @Test
  void pairsOfFewSamplesNeedShrinkage() {
    List<float[]> negative = List.of(new float[] {1, 2, 0, 1, 3}, new float[] {3, -1, 1, 0, 2});
    List<float[]> positive = List.of(new float[] {4, 2, 2, 2, 1}, new float[] {-1, 1, 0, 5, 0});
    assertThrows(
        IllegalArgumentException.class,
        () -> GaussianTransform.of(negative, positive, Method.PAIRS, 0));
    GaussianTransform map = GaussianTransform.of(negative, positive, Method.PAIRS, 0.1);
    double[] moved = map.a().operate(new double[] {1, 2, 0, 1, 3});
    assertTrue(moved[0] + map.b()[0] > 2, "from 1 towards 4: " + (moved[0] + map.b()[0]));
  }

  @Test
  void pairsAreOfAsManyOfBothSides() {
    List<float[]> two = List.of(new float[] {1}, new float[] {2});
    List<float[]> three = List.of(new float[] {1}, new float[] {2}, new float[] {4});
    String error =
        assertThrows(
                IllegalArgumentException.class,
                () -> GaussianTransform.of(two, three, Method.PAIRS, 0))
            .getMessage();
    assertEquals("3 positive and 2 negative samples are no pairs", error);
  }

  @Test
  void whiteningAndTransportCarryTheCovarianceOverAndDifferFromEachOther() {
    Gaussian negative = gaussian(covariance(7, 1), 2);
    Gaussian positive = gaussian(covariance(7, 3), 4);
    RealMatrix whiten = GaussianTransform.of(negative, positive, Method.WHITEN).a();
    RealMatrix transport = GaussianTransform.of(negative, positive, Method.TRANSPORT).a();
    for (RealMatrix a : List.of(whiten, transport)) {
      RealMatrix carried = a.multiply(negative.covariance()).multiply(a.transpose());
      assertClose(positive.covariance(), carried);
    }
    assertTrue(whiten.subtract(transport).getNorm() > 0.1);
    assertClose(transport, transport.transpose()); // optimal maps are symmetric, whitening is not
    assertTrue(whiten.subtract(whiten.transpose()).getNorm() > 0.1);
  }

  @Test
  void whiteningAndTransportAgreeWhereCovariancesCommute() {
    RealMatrix one = covariance(6, 5);
    RealMatrix other = one.multiply(one).add(one.scalarMultiply(3)); // a polynomial of it
    Gaussian negative = gaussian(one, 1);
    Gaussian positive = gaussian(other, 2);
    GaussianTransform whiten = GaussianTransform.of(negative, positive, Method.WHITEN);
    GaussianTransform transport = GaussianTransform.of(negative, positive, Method.TRANSPORT);
    assertClose(whiten.a(), transport.a());
    assertArrayEquals(whiten.b(), transport.b(), 1e-9);
  }

  @ParameterizedTest
  @EnumSource(mode = EnumSource.Mode.EXCLUDE, names = "PAIRS")
  void equalCovariancesOnlyMoveTheMeanAndIdenticalSetsNothing(Method method) {
    RealMatrix identity = MatrixUtils.createRealIdentityMatrix(6);
    Gaussian negative = gaussian(covariance(6, 5), 1);
    Gaussian positive = gaussian(covariance(6, 5), 2);
    GaussianTransform map = GaussianTransform.of(negative, positive, method);
    assertClose(identity, map.a());
    GaussianTransform none = GaussianTransform.of(negative, negative, method);
    assertClose(identity, none.a());
    assertArrayEquals(new double[6], none.b(), 1e-9);
  }

  @Test
  void shrinkageMakesACovarianceRoundAndKeepsItsTrace() {
    Gaussian gaussian = gaussian(covariance(4, 1), 1);
    double trace = gaussian.covariance().getTrace();
    RealMatrix half = gaussian.shrunk(0.5).covariance();
    assertEquals(trace, half.getTrace(), 1e-9);
    assertEquals(0.5 * gaussian.covariance().getEntry(0, 1), half.getEntry(0, 1), 1e-12);
    RealMatrix round = MatrixUtils.createRealIdentityMatrix(4).scalarMultiply(trace / 4);
    assertClose(round, gaussian.shrunk(1).covariance());
  }

  @Test
  void aSingularNegativeCovarianceIsRefusedWhereItIsInverted() {
    Random random = new Random(8);
    List<float[]> few = new ArrayList<>();
    List<float[]> many = new ArrayList<>();
    for (int i = 0; i < 20; i++) {
      float[] sample = new float[6];
      for (int j = 0; j < 6; j++) {
        sample[j] = (float) random.nextGaussian();
      }
      (i < 4 ? few : many).add(sample);
    }
    Gaussian thin = Gaussian.of(few);
    Gaussian full = Gaussian.of(many);
    for (Method method : List.of(Method.WHITEN, Method.TRANSPORT)) {
      String message =
          assertThrows(
                  IllegalArgumentException.class, () -> GaussianTransform.of(thin, full, method))
              .getMessage();
      assertTrue(message.contains("4 samples of 6 numbers is singular"), message);
      GaussianTransform.of(thin.shrunk(0.1), full, method);
      GaussianTransform.of(full, thin, method); // what it is carried to may be flat
    }
    GaussianTransform.of(thin, full, Method.MEAN);
    Gaussian still = Gaussian.of(List.of(new float[6], new float[6])).shrunk(0.1);
    String message =
        assertThrows(
                IllegalArgumentException.class,
                () -> GaussianTransform.of(still, full, Method.WHITEN))
            .getMessage();
    assertTrue(message.contains("do not differ"), message);
    assertThrows(IllegalArgumentException.class, () -> Gaussian.of(List.of(new float[6])));
  }
}
