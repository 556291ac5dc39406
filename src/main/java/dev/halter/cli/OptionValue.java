package dev.halter.cli;

import dev.halter.pictures.PictureFile;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;

/** What options take: one of a few words, a number of at least one, a file of some kind. */
public final class OptionValue {
  private OptionValue() {}

  /** The constant of an enum whose name in lower case is {@code name}. */
  public static <E extends Enum<E>> E of(Class<E> type, String option, String name) {
    for (E value : type.getEnumConstants()) {
      if (name(value).equals(name)) {
        return value;
      }
    }
    String names =
        Arrays.stream(type.getEnumConstants())
            .map(OptionValue::name)
            .collect(Collectors.joining(", "));
    throw new WrongUseException(option + " is '" + name + "'; choose one of " + names);
  }

  /** Refuses a value that is none of those that an option takes. */
  public static void requireOneOf(String option, String value, String... choices) {
    if (!List.of(choices).contains(value)) {
      throw new WrongUseException(
          option + " is '" + value + "'; choose one of " + String.join(", ", choices));
    }
  }

  /** Refuses a number below 1; null, an option not given, is fine. */
  public static void requireAtLeastOne(String option, Integer value) {
    if (value != null && value < 1) {
      throw new WrongUseException(option + " is " + value + ", must be 1 or more");
    }
  }

  /** Refuses a file for a picture whose ending is of none; null, an option not given, is fine. */
  public static void requirePicture(String option, Path file) {
    if (file != null && !PictureFile.isOne(file)) {
      throw new WrongUseException(option + " is " + file + ", must end in .svg, .png or .html");
    }
  }

  private static String name(Enum<?> value) {
    return value.name().toLowerCase(Locale.ROOT);
  }
}
