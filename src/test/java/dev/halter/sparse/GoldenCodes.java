package dev.halter.sparse;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.files.JsonObject;
import dev.halter.weights.Safetensors;
import dev.halter.weights.TensorView;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;

/** A small dictionary, vectors, and what scikit-learn makes of them; tools/goldens/sparse_codes. */
final class GoldenCodes {
  static final List<String> NAMES =
      List.of("gaussian", "shared-mean", "near-parallel", "duplicates", "wide");

  final JsonObject json;
  final float[] atoms;
  final float[] vectors;
  final int n;
  final int d;
  final int rows;

  GoldenCodes(String name) {
    Path folder = Path.of("src/test/resources/sparse");
    this.json = JsonObject.read(folder.resolve(name + ".json"));
    try (Safetensors file = Safetensors.open(folder.resolve(name + ".safetensors"))) {
      TensorView view = file.tensor("atoms");
      this.n = (int) view.size(0);
      this.d = (int) view.size(1);
      this.atoms = view.toFloats();
      this.vectors = file.tensor("vectors").toFloats();
      this.rows = vectors.length / d;
    }
  }

  Dictionary dictionary(Device device) {
    return dictionary(device, atoms, d);
  }

  /** A dictionary of these rows, named by their indices. */
  static Dictionary dictionary(Device device, float[] atoms, int d) {
    List<String> names = IntStream.range(0, atoms.length / d).mapToObj(Integer::toString).toList();
    return new Dictionary(
        device,
        Path.of("test"),
        names,
        d,
        DType.F32,
        (first, into) -> System.arraycopy(atoms, first * d, into, 0, into.length));
  }

  /** Codes of orthogonal_mp, keys support, coefficients and residual_norm. */
  List<JsonObject> pursuits(String key) {
    return json.objects(key);
  }

  static double[] numbers(JsonObject code, String key) {
    List<Double> numbers = new ArrayList<>();
    for (Object number : (List<?>) code.value(key)) {
      numbers.add(((Number) number).doubleValue());
    }
    return numbers.stream().mapToDouble(Double::doubleValue).toArray();
  }

  /** A problem in doubles, from the numbers of the file: what codes are judged by. */
  final class Judge {
    final double[] residual = new double[d];
    final double[] c = new double[n];
    private final double[] norms = new double[n];

    /** Of a code for a row, on unit vector and unit atoms. */
    Judge(int row, Code code) {
      double norm = norm(vectors, row);
      for (int atom = 0; atom < n; atom++) {
        norms[atom] = norm(atoms, atom);
      }
      for (int i = 0; i < d; i++) {
        residual[i] = vectors[row * d + i] / norm;
      }
      for (int i = 0; i < code.support().length; i++) {
        int atom = code.support()[i];
        c[atom] = code.coefficients()[i] * norms[atom] / norm;
        for (int j = 0; j < d; j++) {
          residual[j] -= c[atom] * atoms[atom * d + j] / norms[atom];
        }
      }
    }

    double correlation(int atom) {
      double sum = 0;
      for (int i = 0; i < d; i++) {
        sum += residual[i] * atoms[atom * d + i] / norms[atom];
      }
      return sum;
    }

    double squares() {
      double sum = 0;
      for (double r : residual) {
        sum += r * r;
      }
      return sum;
    }

    double objective(Solver.ElasticNet net) {
      double sum = squares() / 2;
      for (double value : c) {
        sum += net.threshold() * Math.abs(value) + net.ridge() / 2 * value * value;
      }
      return sum;
    }

    /** Largest violation of the optimality conditions over all atoms. */
    double kkt(Solver.ElasticNet net) {
      double worst = 0;
      for (int atom = 0; atom < n; atom++) {
        double g = correlation(atom);
        double off =
            c[atom] == 0
                ? Math.abs(g) - net.threshold()
                : Math.abs(g - net.ridge() * c[atom] - net.threshold() * Math.signum(c[atom]));
        worst = Math.max(worst, off);
      }
      return worst;
    }

    private double norm(float[] values, int row) {
      double sum = 0;
      for (int i = 0; i < d; i++) {
        sum += (double) values[row * d + i] * values[row * d + i];
      }
      return Math.sqrt(sum);
    }
  }
}
