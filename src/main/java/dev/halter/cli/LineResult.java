package dev.halter.cli;

import dev.halter.files.JsonObject;
import java.util.Map;

/**
 * Whose line a result of {@code batch} answers, and whether it does.
 *
 * @param id of the line; null where it could not be read
 * @param number of a line without an id
 */
record LineResult(Object id, Object number, boolean isFailure) {
  /** Of a result in Halter's form or in OpenAI's. */
  static LineResult of(JsonObject json) {
    if (!json.keys().contains("custom_id")) {
      return new LineResult(json.value("id"), json.value("line"), json.has("error"));
    }
    boolean isAnswer =
        json.value("response") instanceof Map<?, ?> response
            && Integer.valueOf(200).equals(response.get("status_code"));
    Object number = json.value("error") instanceof Map<?, ?> error ? error.get("line") : null;
    return new LineResult(json.value("custom_id"), number, !isAnswer);
  }

  /** Whether it is a result of anything. */
  boolean isOne() {
    return id != null || number != null;
  }
}
