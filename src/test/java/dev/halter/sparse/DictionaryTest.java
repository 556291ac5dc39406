package dev.halter.sparse;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DictionaryTest {
  private static final float[] THREE = {3, 4, 0, 0, 0, -2, 1, 2, 2};

  @TempDir Path folder;

  private final Device device = CpuDevice.open(1);

  @AfterEach
  void close() {
    device.close();
  }

  @Test
  void atomsBecomeUnitVectorsAndKeepTheirNorms() {
    for (DType type : List.of(DType.F32, DType.F16, DType.BF16)) {
      try (DictionaryFile file = DictionaryFile.open(write(type, Map.of(), "atoms", THREE));
          Dictionary dictionary = file.load(device, 17)) {
        assertEquals(3, dictionary.size());
        assertEquals(3, dictionary.width());
        assertEquals(Set.of(), file.layers());
        assertEquals(5, dictionary.norm(0));
        assertEquals(2, dictionary.norm(1));
        assertArrayEquals(new float[] {0.6f, 0.8f, 0}, dictionary.unit(0));
        assertArrayEquals(new float[] {0, 0, -1}, dictionary.unit(1));
        assertEquals("2", dictionary.name(2));
        assertEquals(List.of(), dictionary.notes());
        assertEquals(roundedAway(), dictionary.narrowing(), 1e-9);
      }
    }
  }

  /** How far (0.6, 0.8) or (1, 2, 2)/3 lie from numbers of 8 bits. */
  private static double roundedAway() {
    double first = Math.hypot(0.6f - 0.6015625, 0.8f - 0.80078125);
    double third = 1.0f / 3 - 0.333984375;
    double thirds = 2.0f / 3 - 0.66796875;
    return Math.max(first, Math.sqrt(third * third + 2 * thirds * thirds));
  }

  @Test
  void layersHaveDictionariesOfTheirOwn() {
    float[] other = {0, 7, 0, 1, 0, 0, 0, 0, 1};
    Path path = folder.resolve("layers.safetensors");
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            path,
            Map.of(),
            List.of(
                new TensorSpec("atoms.11", DType.F32, 3, 3),
                new TensorSpec("atoms.4", DType.F32, 3, 3),
                new TensorSpec("mean.4", DType.F32, 1)))) {
      out.write("atoms.11", THREE);
      out.write("atoms.4", other);
      out.write("mean.4", new float[1]);
    }
    try (DictionaryFile file = DictionaryFile.open(path)) {
      assertEquals(List.of(4, 11), new ArrayList<>(file.layers()));
      try (Dictionary dictionary = file.load(device, 4)) {
        assertArrayEquals(new float[] {0, 1, 0}, dictionary.unit(0));
      }
      try (Dictionary dictionary = file.load(device, 11)) {
        assertArrayEquals(new float[] {0, 0, -1}, dictionary.unit(1));
      }
      assertError(
          "has no dictionary of layer 5; it has layers [4, 11]", () -> file.load(device, 5));
      assertError("say which is meant", () -> file.load(device));
    }
  }

  @Test
  void namesComeFromMetadataOrFromTheFileBeside() throws IOException {
    Path inside = write(DType.F32, Map.of("names", "[\"a\",\"b\",\"a\"]"), "atoms", THREE);
    try (DictionaryFile file = DictionaryFile.open(inside);
        Dictionary dictionary = file.load(device)) {
      assertEquals("b", dictionary.name(1));
      assertArrayEquals(new int[] {0, 2}, dictionary.find("a"));
      assertError("no concept \"c\"", () -> dictionary.find("c"));
    }
    Path beside = write(DType.F32, Map.of(), "atoms", THREE);
    Path names = folder.resolve("concepts.names.json");
    Files.writeString(names, "[\"x\", \"y y\", \"ü\"]");
    try (DictionaryFile file = DictionaryFile.open(beside)) {
      assertEquals("ü", file.name(2));
    }
    Files.writeString(names, "[\"x\"]");
    assertError("has 1 names for 3 atoms", () -> DictionaryFile.open(beside));
    Files.writeString(names, "{\"x\": 1}");
    assertError("concepts.names.json", () -> DictionaryFile.open(beside));
  }

  @Test
  void equalDirectionsAreOneConceptWithSeveralNames() {
    float[] atoms = {1, 2, 2, 0, 1, 0, 4, 8, 8, -1, -2, -2, 0, 1, 0.01f, 0.25f, 0.5f, 0.5f};
    Path path =
        write(DType.F32, Map.of("names", "[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"]"), "atoms", atoms);
    try (DictionaryFile file = DictionaryFile.open(path);
        Dictionary dictionary = file.load(device)) {
      assertArrayEquals(new int[] {0, 2, 5}, dictionary.find("c"));
      assertArrayEquals(new int[] {3}, dictionary.find("d"), "the opposite is another concept");
      assertArrayEquals(new int[] {4}, dictionary.find("e"));
      assertArrayEquals(new int[] {0, 1, 2, 5}, dictionary.findAll(List.of("b", "f")));
      assertEquals(0, dictionary.firstTwin(5));
      assertEquals(12, dictionary.norm(2));
      String note = dictionary.notes().getFirst();
      assertTrue(note.startsWith("2 of 6 atoms repeat others"), note);
      assertTrue(note.contains("a (0) = c (2) = f (5)"), note);
    }
  }

  /** Rounding to the file's type moves the elements of a longer or shorter twin. */
  @Test
  void aTwinIsOneAtAnyLength() throws IOException {
    int n = 300;
    int d = 70;
    Random random = new Random(4);
    for (DType type : List.of(DType.F32, DType.F16, DType.BF16)) {
      float[] atoms = new float[n * d];
      for (int i = 0; i < atoms.length; i++) {
        atoms[i] = (float) random.nextGaussian();
      }
      float[] lengths = {0.3f, 0.7f, 1, 2, 3};
      for (int twin = 0; twin < lengths.length; twin++) {
        for (int i = 0; i < d; i++) {
          atoms[(9 + 10 * twin) * d + i] = lengths[twin] * atoms[4 * d + i];
        }
      }
      // A neighbour, whose cosine is 1 - 5e-5, is another concept.
      float[] aside = Arrays.copyOfRange(atoms, 5 * d, 6 * d);
      for (int i = 0; i < d; i++) {
        atoms[4 * d + i + d * 196] = atoms[4 * d + i] + 0.01f * aside[i];
      }
      Path path = folder.resolve(type + ".safetensors");
      try (SafetensorsWriter out =
          SafetensorsWriter.create(path, Map.of(), List.of(new TensorSpec("atoms", type, n, d)))) {
        out.write("atoms", atoms);
      }
      try (DictionaryFile file = DictionaryFile.open(path);
          Dictionary dictionary = file.load(device)) {
        assertArrayEquals(new int[] {4, 9, 19, 29, 39, 49}, dictionary.find("29"), "" + type);
        assertArrayEquals(new int[] {200}, dictionary.find("200"), "" + type);
        assertEquals(5, dictionary.repeats());
      }
    }
  }

  @Test
  void anAtomWithoutDirectionIsNamed() {
    String names = "[\"good\",\"bad\",\"ugly\"]";
    for (float bad : new float[] {0, Float.NaN, Float.POSITIVE_INFINITY}) {
      float[] atoms = {1, 0, 0, 0, bad, 0, 0, 0, 1};
      try (DictionaryFile file =
          DictionaryFile.open(write(DType.F32, Map.of("names", names), "atoms", atoms))) {
        assertError("atom 1 (\"bad\")", () -> file.load(device));
      }
    }
  }

  @Test
  void decodersOfSparseAutoencodersAreDictionaries() throws IOException {
    for (String config :
        List.of(
            "{\"d_in\": 3, \"hook_name\": \"blocks.5.hook_resid_post\", \"hook_layer\": 5}",
            "{\"d_in\": 3, \"metadata\": {\"hook_name\": \"blocks.5.hook_resid_post\"}}")) {
      Path sae = Files.createDirectories(folder.resolve("sae"));
      Files.writeString(sae.resolve("cfg.json"), config);
      try (SafetensorsWriter out =
          SafetensorsWriter.create(
              sae.resolve("sae_weights.safetensors"),
              Map.of(),
              List.of(
                  new TensorSpec("W_enc", DType.F32, 3, 3),
                  new TensorSpec("W_dec", DType.F32, 3, 3)))) {
        out.write("W_enc", new float[9]);
        out.write("W_dec", THREE);
      }
      try (DictionaryFile file = DictionaryFile.open(sae);
          Dictionary dictionary = file.load(device, 5)) {
        assertEquals(Set.of(5), file.layers());
        assertEquals(5, dictionary.norm(0));
      }
    }
  }

  @Test
  void whatIsNoDictionaryIsRefused() {
    assertError(
        "no tensor \"atoms\"", () -> DictionaryFile.open(write(DType.F32, Map.of(), "x", THREE)));
    Path flat = folder.resolve("flat.safetensors");
    try (SafetensorsWriter out =
        SafetensorsWriter.create(flat, Map.of(), List.of(new TensorSpec("atoms", DType.F32, 9)))) {
      out.write("atoms", THREE);
    }
    assertError("[n, d]", () -> DictionaryFile.open(flat));
    assertError("no such file", () -> DictionaryFile.open(folder.resolve("none.safetensors")));
  }

  private Path write(DType type, Map<String, String> metadata, String name, float[] atoms) {
    Path path = folder.resolve("concepts.safetensors");
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            path, metadata, List.of(new TensorSpec(name, type, atoms.length / 3, 3)))) {
      out.write(name, atoms);
    }
    return path;
  }

  private static void assertError(String part, org.junit.jupiter.api.function.Executable work) {
    String message = assertThrows(IllegalArgumentException.class, work).getMessage();
    assertTrue(message.contains(part), message);
  }
}
