package dev.halter.sparse;

import dev.halter.files.BadFileException;
import dev.halter.weights.Safetensors;
import dev.halter.weights.TensorView;
import java.nio.file.Path;

/** Vectors of a safetensors file, one in each row of a tensor. */
public final class Vectors {
  private static final String SAFETENSORS = ".safetensors";

  private Vectors() {}

  /**
   * Reads a tensor [rows, d], or [d] for a single vector, widened to f32.
   *
   * @param name {@code F.safetensors}, which then has one tensor, or {@code F.safetensors#tensor}
   * @param d length that the vectors must have
   * @return the rows, end to end
   * @throws BadFileException if there is no such file or tensor, or it has another shape or type
   */
  public static float[] read(String name, int d) {
    int hash = name.indexOf(SAFETENSORS + "#");
    int end = hash < 0 ? name.length() : hash + SAFETENSORS.length();
    Path file = Path.of(name.substring(0, end));
    try (Safetensors tensors = Safetensors.open(file)) {
      if (hash < 0 && tensors.names().size() != 1) {
        throw new BadFileException(
            file,
            "holds %,d tensors; name one as %s#TENSOR".formatted(tensors.names().size(), file));
      }
      TensorView view =
          tensors.tensor(hash < 0 ? tensors.names().iterator().next() : name.substring(end + 1));
      boolean shaped = view.rank() == 1 || view.rank() == 2;
      if (!shaped || !view.dtype().isFloat() || view.size(view.rank() - 1) != d) {
        throw new BadFileException(
            file,
            view + " holds no vectors of " + d + " numbers in F64, F32, F16 or BF16, one a row");
      }
      return view.toFloats();
    }
  }
}
