package dev.halter.sparse;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.files.BadFileException;
import dev.halter.weights.SafetensorsWriter;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/**
 * The concept dictionary of one layer on a device: n atoms of length d, as unit vectors, with the
 * norms that they had.
 *
 * <p>Atoms keep the index that they have in their file. Atoms with the same direction, at any
 * length and as near as their file can tell, are one concept under several names: {@link #find}
 * gives all of them for each of their names.
 */
public final class Dictionary implements AutoCloseable {
  /** Floats that are read at once. */
  private static final int PIECE = 1 << 22;

  private final Scope scope;
  private final List<String> names;
  private final int width;
  private final float[] norms;
  private final int[] firstTwins;
  private final double narrowing;
  private final double commonPart;
  private final Buffer atoms;
  private final Buffer narrowAtoms;
  private final Map<String, List<Integer>> byName = new HashMap<>();
  private final Map<Integer, List<Integer>> twins = new LinkedHashMap<>();
  private Gram gram;
  private QuantisedAtoms quantised;

  /** Where atoms come from. */
  @FunctionalInterface
  public interface Atoms {
    /** Reads whole atoms, from {@code first} on, until {@code into} is full. */
    void read(int first, float[] into);
  }

  /**
   * Puts a dictionary on a device.
   *
   * @param path what messages name
   * @param names one for each atom
   * @param width length d of an atom
   * @param type that the atoms were rounded to
   * @throws BadFileException for an atom that is zero or not finite, naming it
   */
  public Dictionary(
      Device device, Path path, List<String> names, int width, DType type, Atoms source) {
    int n = names.size();
    this.scope = device.scope();
    this.names = List.copyOf(names);
    this.width = width;
    this.norms = new float[n];
    this.firstTwins = new int[n];
    double furthest = 0;
    double[] sum = new double[width];
    Twins alike = new Twins(n, width);
    int together = Math.max(1, PIECE / width);
    try {
      this.atoms = scope.allocate(4L * n * width);
      this.narrowAtoms = scope.allocate(2L * n * width);
      for (int first = 0; first < n; first += together) {
        int count = Math.min(together, n - first);
        float[] rows = new float[count * width];
        source.read(first, rows);
        short[] narrow = new short[rows.length];
        for (int i = 0; i < count; i++) {
          norms[first + i] = normalise(path, first + i, rows, i * width);
          furthest = Math.max(furthest, narrow(rows, narrow, i * width));
          for (int j = 0; j < width; j++) {
            sum[j] += rows[i * width + j];
          }
          alike.add(first + i, rows, i * width);
        }
        atoms.slice(4L * first * width).copyFrom(MemorySegment.ofArray(rows));
        narrowAtoms.slice(2L * first * width).copyFrom(MemorySegment.ofArray(narrow));
      }
      findTwins(alike, type);
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
    this.narrowing = Math.sqrt(furthest);
    this.commonPart = Math.sqrt(Arrays.stream(sum).map(x -> x / n * (x / n)).sum());
    for (int atom = 0; atom < n; atom++) {
      byName.computeIfAbsent(names.get(atom), name -> new ArrayList<>()).add(atom);
    }
  }

  private float normalise(Path path, int atom, float[] rows, int from) {
    double squares = 0;
    for (int i = from; i < from + width; i++) {
      squares += (double) rows[i] * rows[i];
    }
    double norm = Math.sqrt(squares);
    if (!(norm > 0 && norm <= Float.MAX_VALUE)) {
      throw new BadFileException(
          path,
          "atom %d (\"%s\") %s: a concept needs a direction; leave it out of the dictionary"
              .formatted(
                  atom,
                  names.get(atom),
                  norm == 0 ? "is zero" : "holds values that are not finite"));
    }
    for (int i = from; i < from + width; i++) {
      rows[i] = (float) (rows[i] / norm);
    }
    return (float) norm;
  }

  /** Rounds an atom to bf16; returns the square of how far that moves it. */
  private double narrow(float[] rows, short[] narrow, int from) {
    double moved = 0;
    for (int i = from; i < from + width; i++) {
      narrow[i] = SafetensorsWriter.bf16(rows[i]);
      double step = rows[i] - Float.intBitsToFloat(narrow[i] << 16);
      moved += step * step;
    }
    return moved;
  }

  private void findTwins(Twins found, DType type) {
    int[] first = found.first(this::unit, apart(type));
    System.arraycopy(first, 0, firstTwins, 0, first.length);
    for (int atom = 0; atom < first.length; atom++) {
      if (first[atom] != atom) {
        int of = first[atom];
        twins.computeIfAbsent(of, f -> new ArrayList<>(List.of(f))).add(atom);
      }
    }
  }

  /**
   * How far apart unit atoms of one direction may lie: their file rounded both at their own length,
   * and both were rounded again at length 1.
   */
  private static double apart(DType type) {
    double unit =
        switch (type) {
          case F16 -> 0x1p-11;
          case BF16 -> 0x1p-9;
          default -> 0x1p-24;
        };
    return 4 * (unit + 0x1p-24);
  }

  /** Number of atoms n. */
  public int size() {
    return names.size();
  }

  /** Length d of an atom. */
  public int width() {
    return width;
  }

  public String name(int atom) {
    return names.get(atom);
  }

  /** L2 norm that the atom has in its file. */
  public float norm(int atom) {
    return norms[atom];
  }

  /** The atom of lowest index with this atom's direction: itself unless it repeats another. */
  public int firstTwin(int atom) {
    return firstTwins[atom];
  }

  /**
   * All atoms of that name, and those of the same direction under other names; ascending.
   *
   * @throws IllegalArgumentException if there is none
   */
  public int[] find(String name) {
    List<Integer> found = byName.get(name);
    if (found == null) {
      throw new IllegalArgumentException(
          "the dictionary has no concept \"%s\"; it has %,d, such as %s"
              .formatted(name, size(), names.subList(0, Math.min(5, size()))));
    }
    return found.stream()
        .map(atom -> twins.getOrDefault(firstTwins[atom], List.of(atom)))
        .flatMapToInt(same -> same.stream().mapToInt(Integer::intValue))
        .distinct()
        .sorted()
        .toArray();
  }

  /** How many atoms have the direction of an earlier one. */
  public int repeats() {
    return twins.values().stream().mapToInt(same -> same.size() - 1).sum();
  }

  /**
   * Norm of the mean of the unit atoms: 0 where they point everywhere, 1 where they are all alike.
   * Its square is the mean cosine between two atoms.
   */
  public double commonPart() {
    return commonPart;
  }

  /** Remarks for people, a line each: which atoms repeat others. */
  public List<String> notes() {
    if (twins.isEmpty()) {
      return List.of();
    }
    String first =
        String.join(
            "; ",
            twins.values().stream()
                .limit(3)
                .map(
                    same ->
                        String.join(
                            " = ",
                            same.stream()
                                .limit(3)
                                .map(a -> names.get(a) + " (" + a + ")")
                                .toList()))
                .toList());
    return List.of(
        "%,d of %,d atoms repeat others and are one concept with them: %s%s"
            .formatted(repeats(), size(), first, twins.size() > 3 ? "; …" : ""));
  }

  /** The unit atoms [n, d] in f32. */
  public Buffer atoms() {
    return atoms;
  }

  /** The unit atoms as a factor of products, f32. */
  Matrix matrix() {
    return new Matrix(atoms, DType.F32, width);
  }

  /** The unit atoms rounded to bf16, as a factor of products. */
  Matrix narrowMatrix() {
    return new Matrix(narrowAtoms, DType.BF16, width);
  }

  /** Furthest that rounding to bf16 moves an atom, in L2 norm. */
  double narrowing() {
    return narrowing;
  }

  /** The Gram matrix of the atoms, whose rows are made when they are needed. */
  Gram gram() {
    if (gram == null) {
      gram = scope.add(new Gram(this));
    }
    return gram;
  }

  /** The atoms as integers, made when they are first asked for. */
  QuantisedAtoms quantised() {
    if (quantised == null) {
      quantised = scope.add(new QuantisedAtoms(this));
    }
    return quantised;
  }

  /** A unit atom, from the device. */
  public float[] unit(int atom) {
    return atoms.slice(4L * atom * width).toFloats(width);
  }

  public Device device() {
    return scope.device();
  }

  /** Bytes of device memory of a dictionary of n atoms of length d. */
  public static long bytes(int n, int d) {
    return 6L * n * d;
  }

  /** The indices of all atoms whose names are given; see {@link #find}. */
  public int[] findAll(List<String> concepts) {
    return concepts.stream()
        .flatMapToInt(name -> IntStream.of(find(name)))
        .distinct()
        .sorted()
        .toArray();
  }

  @Override
  public void close() {
    scope.close();
  }
}
