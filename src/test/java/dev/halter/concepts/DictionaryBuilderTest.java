package dev.halter.concepts;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.Demo;
import dev.halter.files.BadFileException;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.model.Capture;
import dev.halter.model.Site;
import dev.halter.sparse.DictionaryFile;
import dev.halter.weights.Safetensors;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DictionaryBuilderTest {
  private static final int D_MODEL = Demo.CONFIG.dModel();

  private static LanguageModel model;

  @TempDir Path folder;
  private Path file;
  private Path out;

  @BeforeAll
  static void open() {
    model =
        LanguageModel.at(Path.of("src/main/models/demo"))
            .device("cpu")
            .dtype("f32")
            .threads(2)
            .context(128)
            .maxBatch(16)
            .open();
  }

  @AfterAll
  static void close() {
    model.close();
  }

  @BeforeEach
  void write() throws IOException {
    file = folder.resolve("stimuli.jsonl");
    out = folder.resolve("concepts.safetensors");
    List<String> lines = new ArrayList<>();
    for (String animal : List.of("dog", "cat", "cow")) {
      for (String text : List.of("I see the %s.", "The %s eats.", "Where is the %s?")) {
        lines.add(
            "{\"concept\": \"%s\", \"text\": \"%s\"}".formatted(animal, text.formatted(animal)));
      }
    }
    Files.write(file, lines);
  }

  private static DictionaryBuilder.Settings settings(Direction direction, long seed) {
    return new DictionaryBuilder.Settings(1, 2, direction, "{text} ({concept})", 2, 5, seed);
  }

  private int build(DictionaryBuilder.Settings settings) {
    return new DictionaryBuilder(model, model::encode, Stimuli.read(file), settings)
        .build(out, done -> {});
  }

  @Test
  void atomsAreTheDirectionsOfLastTokenActivations() {
    assertEquals(0, build(settings(Direction.MEAN, 7)));
    Site site = new Site(Site.Kind.RESID_POST, 2);
    List<float[]> dogs = new ArrayList<>();
    for (String text : List.of("I see the dog. (dog)", "The dog eats. (dog)")) {
      int[] tokens = model.encode(text);
      Capture capture = new Capture(model.config(), Set.of(site), tokens.length);
      model.engine().run(Request.of(tokens).withMaxTokens(0).with(capture)).orThrow();
      float[] all = capture.values().get(site);
      dogs.add(Arrays.copyOfRange(all, all.length - D_MODEL, all.length));
    }
    try (DictionaryFile dictionary = DictionaryFile.open(out);
        Safetensors tensors = Safetensors.open(out)) {
      assertEquals(Set.of(1, 2), Set.copyOf(dictionary.layers()));
      assertEquals(3, dictionary.size());
      assertTrue(tensors.tensor("atoms.2").hasShape(3, D_MODEL));
      assertEquals("[\"dog\",\"cat\",\"cow\"]", tensors.metadata().get("names"));
      float[] atoms = tensors.tensor("atoms.2").toFloats();
      // Against others, the concept's own activations lie on its atom's side.
      double own = 0;
      double norm = 0;
      for (int i = 0; i < D_MODEL; i++) {
        own += atoms[i] * (dogs.get(0)[i] + dogs.get(1)[i]) / 2;
        norm += atoms[i] * atoms[i];
      }
      assertEquals(1, norm, 1e-5);
      for (String text : List.of("I see the cat. (cat)", "The cow eats. (cow)")) {
        int[] tokens = model.encode(text);
        Capture last = Capture.last(model.config(), Set.of(site), tokens.length);
        model.engine().run(Request.of(tokens).withMaxTokens(0).with(last)).orThrow();
        double other = 0;
        for (int i = 0; i < D_MODEL; i++) {
          other += atoms[i] * last.values().get(site)[i];
        }
        assertTrue(other < own, text);
      }
    }
    assertFalse(Files.exists(folder.resolve("concepts.safetensors.part")));
  }

  @Test
  void theLastTokenAloneIsWhatTheWholeCaptureEndsWith() {
    Site site = new Site(Site.Kind.RESID_POST, 1);
    int[] tokens = model.encode("The dog barks at the cat in the house.");
    Capture all = new Capture(model.config(), Set.of(site), tokens.length);
    Capture last = Capture.last(model.config(), Set.of(site), tokens.length);
    model.engine().run(Request.of(tokens).withMaxTokens(0).with(all)).orThrow();
    model.engine().run(Request.of(tokens).withMaxTokens(0).with(last)).orThrow();
    float[] values = all.values().get(site);
    assertArrayEquals(
        Arrays.copyOfRange(values, values.length - D_MODEL, values.length),
        last.values().get(site));
  }

  @Test
  void aBuildGoesOnWhereAKillLeftItAndEndsTheSame() throws IOException {
    build(settings(Direction.PCA, 7));
    byte[] whole = Files.readAllBytes(out);
    Files.delete(out);
    // Killed in the second concept: its progress is there with a cut row.
    Path part = folder.resolve("concepts.safetensors.part");
    assertThrows(
        IllegalStateException.class,
        () ->
            new DictionaryBuilder(
                    model, model::encode, Stimuli.read(file), settings(Direction.PCA, 7))
                .build(
                    out,
                    done -> {
                      if (done > 0) {
                        throw new IllegalStateException("killed");
                      }
                    }));
    byte[] all = Files.readAllBytes(part);
    int row = 4 * 2 * D_MODEL;
    Files.write(part, Arrays.copyOf(all, all.length - 2 * row + 100));
    assertEquals(1, build(settings(Direction.PCA, 7)));
    assertArrayEquals(whole, Files.readAllBytes(out));
  }

  @Test
  void progressOfAnotherDictionaryIsRefused() throws IOException {
    Files.write(folder.resolve("concepts.safetensors.part"), new byte[100]);
    String message =
        assertThrows(BadFileException.class, () -> build(settings(Direction.PCA, 7))).getMessage();
    assertTrue(message.contains("remove it"), message);
  }

  @Test
  void theSeedChoosesWhatConceptsAreSetAgainst() throws IOException {
    Set<String> dictionaries = new HashSet<>();
    for (int seed = 0; seed < 4; seed++) {
      build(new DictionaryBuilder.Settings(1, 1, Direction.PCA, "{text}", 3, 3, seed));
      dictionaries.add(Arrays.toString(Files.readAllBytes(out)));
    }
    assertTrue(dictionaries.size() > 1);
  }

  @Test
  void layersThatTheModelHasNotAreRefused() {
    int layers = Demo.CONFIG.nLayers();
    String message =
        assertThrows(
                IllegalArgumentException.class,
                () ->
                    build(
                        new DictionaryBuilder.Settings(
                            2, layers, Direction.PCA, "{text}", 2, 5, 0)))
            .getMessage();
    assertTrue(message.contains("layers 0.." + (layers - 1)), message);
  }
}
