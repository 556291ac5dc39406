package dev.halter.serving.dialects;

import dev.halter.files.JsonObject;
import dev.halter.model.Edit;
import io.airlift.compress.v3.MalformedInputException;
import io.airlift.compress.v3.zstd.ZstdNativeDecompressor;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;

/**
 * Numbers and vectors as these dialects have them in JSON: lists, or the bytes of an array in
 * base64, little-endian and row-major. All of them finite once they are f32.
 */
final class Numbers {
  /** Largest magnitude of a scale or a bound. */
  static final float MOST = 1e30f;

  private static final int MOST_VALUES = 16 << 20; // of an array

  private Numbers() {}

  /** A number that is not huge; {@code otherwise} where it is absent. */
  static float number(JsonObject json, String key, double otherwise) {
    return (float) json.number(key, -MOST, MOST, otherwise);
  }

  /** A list of {@code count} such numbers; {@code otherwise} for each where it is absent. */
  static float[] numbers(JsonObject json, String key, int count, float otherwise) {
    if (json.has(key)) {
      return list(json, key, count, MOST, "one for each row");
    }
    float[] values = new float[count];
    Arrays.fill(values, otherwise);
    return values;
  }

  /** A list of {@code width} numbers. */
  static float[] vector(JsonObject json, String key, int width) {
    return list(json, key, width, Float.MAX_VALUE, "d_model of this model");
  }

  private static float[] list(JsonObject json, String key, int count, float most, String why) {
    float[] values = new float[count];
    boolean isList = json.value(key) instanceof List<?> items && items.size() == count;
    for (int i = 0; i < count && isList; i++) {
      Object item = ((List<?>) json.value(key)).get(i);
      values[i] = item instanceof Number number ? number.floatValue() : Float.NaN;
      isList = Math.abs(values[i]) <= most;
    }
    if (!isList) {
      throw json.wrong(key, "a list of %,d finite numbers, %s".formatted(count, why));
    }
    return values;
  }

  /** A vector's direction. */
  static float[] unit(JsonObject json, String key, float[] vector) {
    try {
      return Edit.unit(vector);
    } catch (IllegalArgumentException e) {
      throw json.wrong(key, "vectors that are not zero: they have no direction");
    }
  }

  /** Distinct integers below {@code count}, at least one. */
  static List<Integer> indices(JsonObject json, String key, int count) {
    if (!(json.value(key) instanceof List<?> items)
        || items.isEmpty()
        || !items.stream().allMatch(each -> each instanceof Integer i && i >= 0 && i < count)
        || items.stream().distinct().count() != items.size()) {
      throw json.wrong(key, "a list of distinct integers from 0 to " + (count - 1));
    }
    return items.stream().map(Integer.class::cast).toList();
  }

  /** The array [rows, width] that {@code dtype}, {@code shape} and {@code data} are. */
  static float[][] rows(JsonObject json, int width) {
    List<Integer> shape = shape(json);
    if (shape.size() != 2 || shape.get(0) == 0 || shape.get(1) != width) {
      throw json.wrong(
          "shape", "[rows, %d], of at least one row of d_model values".formatted(width));
    }
    return rows(json, bytes(json), json.text("dtype"), shape.getFirst(), width);
  }

  /** A {@code shape} of no more values than a body can have. */
  static List<Integer> shape(JsonObject json) {
    List<Integer> shape =
        json.value("shape") instanceof List<?> ? json.integers("shape") : List.of();
    long product = 1;
    for (int size : shape) {
      product = Math.min(product * Math.max(1, size), Integer.MAX_VALUE);
    }
    if (shape.isEmpty() || product > MOST_VALUES) {
      throw json.wrong(
          "shape", "a list of sizes, at most %,d values together".formatted(MOST_VALUES));
    }
    return shape;
  }

  /** The bytes of {@code data}. */
  static byte[] bytes(JsonObject json) {
    String text = json.text("data");
    try {
      return Base64.getDecoder().decode(text);
    } catch (IllegalArgumentException e) {
      throw json.wrong("data", "bytes in base64");
    }
  }

  /**
   * What bytes of {@code data} are that Zstandard has compressed.
   *
   * @param size how many they are
   */
  static byte[] inflate(JsonObject json, byte[] compressed, int size) {
    byte[] bytes = new byte[size];
    try {
      ZstdNativeDecompressor zstd = new ZstdNativeDecompressor();
      if (zstd.decompress(compressed, 0, compressed.length, bytes, 0, size) == size) {
        return bytes;
      }
    } catch (MalformedInputException | IllegalArgumentException e) {
      // told below
    }
    throw json.wrong("data", "%,d bytes, compressed by zstd, in base64".formatted(size));
  }

  /** Bytes of a value of a type, as numpy calls it. */
  static int size(JsonObject json, String type) {
    return switch (type) {
      case "float64" -> 8;
      case "float32" -> 4;
      case "float16", "bfloat16" -> 2;
      default -> throw json.wrong("dtype", "one of float32, float16, bfloat16, float64");
    };
  }

  /** An array [rows, width] of its bytes. */
  static float[][] rows(JsonObject json, byte[] bytes, String type, int rows, int width) {
    long size = (long) size(json, type) * rows * width;
    if (bytes.length != size) {
      throw json.wrong(
          "data",
          "the base64 of %,d bytes: %d × %d values of %s".formatted(size, rows, width, type));
    }
    ByteBuffer values = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    float[][] split = new float[rows][width];
    for (float[] row : split) {
      for (int i = 0; i < width; i++) {
        row[i] =
            switch (type) {
              case "float64" -> (float) values.getDouble();
              case "float16" -> Float.float16ToFloat(values.getShort());
              case "bfloat16" -> Float.intBitsToFloat(values.getShort() << 16);
              default -> values.getFloat();
            };
        if (!Float.isFinite(row[i])) {
          throw json.wrong("data", "the base64 of finite values");
        }
      }
    }
    return split;
  }
}
