package dev.halter.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

class OrdinalTest {
  @Test
  void placesHaveTheirNames() {
    assertEquals(
        List.of(
            "1st", "2nd", "3rd", "4th", "10th", "11th", "12th", "13th", "21st", "22nd", "111th"),
        Stream.of(1, 2, 3, 4, 10, 11, 12, 13, 21, 22, 111)
            .map(place -> Ordinal.of(place - 1))
            .toList());
  }
}
