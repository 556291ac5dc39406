package dev.halter.weights;

import dev.halter.files.BadFileException;
import dev.halter.files.NamedFiles;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.stream.LongStream;

/**
 * Reads the vector that a steering plan names. Three forms:
 *
 * <ul>
 *   <li>{@code file.safetensors}: its only tensor
 *   <li>{@code file.safetensors#name}: that tensor
 *   <li>{@code file.gguf}: a control vector's direction for the site's layer
 * </ul>
 */
public final class SteeringVectors {
  private static final String SAFETENSORS = ".safetensors";

  private SteeringVectors() {}

  /**
   * Reads a vector of exactly {@code length} finite values, widened to f32.
   *
   * @param folder where {@code name} is looked for unless it is absolute
   * @param name one of the three forms
   * @param layer layer of the site, counted from 0; only a control vector depends on it
   * @param layerShift which direction of a control vector is meant: {@code direction.(layer +
   *     layerShift)}. 0 is how llama.cpp and repeng apply a file; 1 undoes cvector-generator's
   *     counting, which names the output of block N {@code direction.(N+1)}
   * @param length number of values wanted: d_model for a site of the residual stream
   * @throws BadFileException if there is no such file, tensor or direction, or it has another
   *     length, type or values that are not finite
   */
  public static float[] read(Path folder, String name, int layer, int layerShift, int length) {
    return read(NamedFiles.in(folder), name, layer, layerShift, length);
  }

  /** As {@link #read(Path, String, int, int, int)}, of a file that is one of these. */
  public static float[] read(NamedFiles files, String name, int layer, int layerShift, int length) {
    int hash = name.indexOf(SAFETENSORS + "#");
    if (hash >= 0) {
      int end = hash + SAFETENSORS.length();
      return tensor(file(files, name.substring(0, end)), name.substring(end + 1), length);
    }
    Path file = file(files, name);
    if (name.endsWith(SAFETENSORS)) {
      return tensor(file, null, length);
    }
    if (name.endsWith(".gguf")) {
      return direction(file, layer, layerShift, length);
    }
    throw new BadFileException(
        file, "a vector must be FILE.safetensors, FILE.safetensors#TENSOR or FILE.gguf");
  }

  private static Path file(NamedFiles files, String name) {
    try {
      return files.find(name);
    } catch (InvalidPathException e) {
      throw new BadFileException(
          Path.of("vector"), "the name of its file is none: " + e.getReason(), e);
    }
  }

  /** The tensor of that name, or the only one when {@code tensorName} is null. */
  private static float[] tensor(Path file, String tensorName, int length) {
    try (Safetensors tensors = Safetensors.open(file)) {
      if (tensorName == null && tensors.names().size() != 1) {
        throw new BadFileException(
            file,
            "holds "
                + tensors.names().size()
                + " tensors ("
                + Safetensors.sample(tensors.names())
                + "); name one as "
                + file
                + "#TENSOR");
      }
      TensorView tensor =
          tensors.tensor(tensorName == null ? tensors.names().iterator().next() : tensorName);
      String what = "tensor \"" + tensor.name() + "\"";
      if (!tensor.dtype().isFloat()) {
        throw new BadFileException(
            file, what + " is " + tensor.dtype() + "; a vector must be F64, F32, F16 or BF16");
      }
      // [d], and also [1, d] and the like, which some tools write.
      long[] shape = LongStream.of(tensor.shape()).filter(size -> size != 1).toArray();
      if (tensor.elements() != length || shape.length > 1) {
        throw wrongLength(file, tensor.toString().replace(tensor.name(), what), length);
      }
      return finite(file, what, tensor.toFloats());
    }
  }

  private static float[] direction(Path file, int layer, int layerShift, int length) {
    ControlVector vector = ControlVector.read(file);
    int index = Math.addExact(layer, layerShift);
    float[] direction = vector.directions().get(index);
    if (direction == null) {
      throw new BadFileException(
          file,
          "has no direction."
              + index
              + " (layer "
              + layer
              + ", layer_shift "
              + layerShift
              + "); it has directions "
              + vector.directions().firstKey()
              + " to "
              + vector.directions().lastKey());
    }
    if (direction.length != length) {
      throw wrongLength(
          file, "tensor \"direction." + index + "\" [" + direction.length + "]", length);
    }
    return finite(file, "tensor \"direction." + index + "\"", direction);
  }

  private static BadFileException wrongLength(Path file, String tensor, int length) {
    return new BadFileException(file, tensor + " is no vector of " + length + " values");
  }

  private static float[] finite(Path file, String tensor, float[] values) {
    for (int i = 0; i < values.length; i++) {
      if (!Float.isFinite(values[i])) {
        throw new BadFileException(file, tensor + " holds " + values[i] + " at index " + i);
      }
    }
    return values;
  }
}
