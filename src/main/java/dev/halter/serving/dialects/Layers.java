package dev.halter.serving.dialects;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;

/** Layers that are keys of JSON. */
final class Layers {
  private Layers() {}

  /** The layer below {@code count} that a key names after {@code prefix}. */
  static int of(JsonObject json, String key, String prefix, int count) {
    String digits = key.startsWith(prefix) ? key.substring(prefix.length()) : "";
    if (!digits.matches("0|[1-9][0-9]{0,5}") || Integer.parseInt(digits) >= count) {
      throw new BadFileException(
          json.file(),
          "\"%s\" is no layer: they are \"%s0\" to \"%s%d\""
              .formatted(json.path(key), prefix, prefix, count - 1));
    }
    return Integer.parseInt(digits);
  }
}
