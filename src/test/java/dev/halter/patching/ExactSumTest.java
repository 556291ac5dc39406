package dev.halter.patching;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** Sums that are rounded once. */
class ExactSumTest {
  private static ExactSum of(List<Double> numbers) {
    ExactSum sum = new ExactSum();
    numbers.forEach(sum::add);
    return sum;
  }

  private static ExactSum of(double... numbers) {
    ExactSum sum = new ExactSum();
    for (double number : numbers) {
      sum.add(number);
    }
    return sum;
  }

  @Test
  void theSumIsTheNearestDoubleOfTheExactOne() {
    Random random = new Random(1);
    boolean naiveDiffers = false;
    for (int round = 0; round < 200; round++) {
      List<Double> numbers = new ArrayList<>();
      BigDecimal exact = BigDecimal.ZERO;
      double naive = 0;
      for (int i = 0; i < 50; i++) {
        double number = random.nextGaussian() * Math.pow(2, random.nextInt(120) - 60);
        numbers.add(number);
        exact = exact.add(new BigDecimal(number));
        naive += number;
      }
      assertEquals(exact.doubleValue(), of(numbers).value());
      naiveDiffers |= naive != exact.doubleValue();

      Collections.shuffle(numbers, random);
      ExactSum parts = of(numbers.subList(0, 17));
      parts.add(of(numbers.subList(17, 50)));
      assertEquals(exact.doubleValue(), parts.value());
    }
    assertEquals(true, naiveDiffers, "else this shows nothing");
  }

  @Test
  void tiesGoToEvenUnlessSomethingLiesBelow() {
    double half = Math.ulp(1.0) / 2;
    assertEquals(1.0, of(1.0, half).value());
    assertEquals(1.0 + 2 * half, of(1.0, half, 0x1p-200).value());
    assertEquals(1.0 + 4 * half, of(1.0 + 2 * half, half).value());
    assertEquals(1.0 + 2 * half, of(1.0 + 2 * half, half, -0x1p-200).value());
    assertNotEquals(1.0, 1.0 + 2 * half);
  }

  @Test
  void whatCancelsLeavesTheRest() {
    assertEquals(1e-300, of(1e300, 1e-300, -1e300).value());
    assertEquals(0.0, of().value());
    assertEquals(0.0, of(5, -5).value());
  }

  @Test
  void whatIsNotFiniteStaysSo() {
    assertEquals(Double.NaN, of(1, Double.NaN, 2).value());
    assertEquals(Double.POSITIVE_INFINITY, of(1, Double.POSITIVE_INFINITY, 2).value());
    ExactSum sum = of(1);
    sum.add(of(Double.NaN));
    assertEquals(Double.NaN, sum.value());
  }
}
