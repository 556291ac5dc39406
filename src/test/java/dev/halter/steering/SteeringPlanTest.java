package dev.halter.steering;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.DType;
import dev.halter.files.BadFileException;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.lang.reflect.RecordComponent;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SteeringPlanTest {
  /** 3 layers, 6 heads, d_model 48, d_mlp 80, vocabulary 128. */
  private static final ModelConfig CONFIG =
      ModelConfig.read(Path.of("src/test/resources/goldens/llama3/model"));

  private static final float INFINITY = Float.POSITIVE_INFINITY;

  @TempDir static Path folder;

  @BeforeAll
  static void writeVectors() {
    float[] vector = new float[48];
    vector[0] = 3;
    vector[1] = 4;
    Path file = folder.resolve("v.safetensors");
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            file,
            Map.of(),
            List.of(
                new TensorSpec("v", DType.F32, 48),
                new TensorSpec("zero", DType.F32, 48),
                new TensorSpec("short", DType.F32, 47)))) {
      out.write("v", vector);
      out.write("zero", new float[48]);
      out.write("short", new float[47]);
    }
  }

  @Test
  void readsNeuronClampsByValueBoundsAndScale() {
    String site = "'op': 'neuron_clamp', 'site': 'blocks.1.mlp.hook_post', 'neurons': [79, 0], ";
    assertNeurons(site + "'value': -2.5", 0, -2.5f, -2.5f);
    assertNeurons(site + "'min': -1", 1, -1, INFINITY);
    assertNeurons(site + "'max': 0.5", 1, -INFINITY, 0.5f);
    assertNeurons(site + "'min': -1, 'max': 2", 1, -1, 2);
    assertNeurons(site + "'scale': 0", 0, -INFINITY, INFINITY);
  }

  private static void assertNeurons(String intervention, float scale, float min, float max) {
    Edit.Neurons edit = assertInstanceOf(Edit.Neurons.class, edit(intervention));
    assertEquals(new Site(Site.Kind.POST, 1), edit.site());
    assertArrayEquals(new int[] {79, 0}, edit.neurons());
    assertEquals(scale, edit.scale());
    assertEquals(min, edit.min());
    assertEquals(max, edit.max());
  }

  @Test
  void everyOperationTakesAStrength() {
    for (String intervention :
        List.of(
            "'op': 'neuron_clamp', 'site': 'blocks.1.mlp.hook_post', 'neurons': [79], 'value': 3",
            "'op': 'head_scale', 'site': 'blocks.0.attn.hook_z', 'heads': [1], 'scale': 0.25",
            "'op': 'add', 'site': 'blocks.0.hook_resid_post', 'vector': 'v.safetensors#v'",
            "'op': 'ablate', 'site': 'blocks.0.hook_resid_post', 'vector': 'v.safetensors#v'",
            "'op': 'project_clamp', 'site': 'blocks.0.hook_resid_post', 'vector':"
                + " 'v.safetensors#v', 'min': 1")) {
      Edit whole = edit(intervention);
      Edit half = edit(intervention + ", 'strength': 0.5");
      assertEquals(fields(whole.scaled(0.5)), fields(half), intervention);
      assertNotEquals(fields(whole), fields(half), intervention);
    }
  }

  /** What an edit holds, arrays by their values. */
  private static List<Object> fields(Edit edit) {
    List<Object> fields = new ArrayList<>();
    for (RecordComponent component : edit.getClass().getRecordComponents()) {
      try {
        Object value = component.getAccessor().invoke(edit);
        fields.add(
            switch (value) {
              case float[] floats -> Arrays.toString(floats);
              case int[] ints -> Arrays.toString(ints);
              default -> value;
            });
      } catch (ReflectiveOperationException e) {
        throw new LinkageError(e.getMessage(), e);
      }
    }
    return fields;
  }

  @Test
  void readsHeadScales() {
    Edit.Heads edit =
        assertInstanceOf(
            Edit.Heads.class,
            edit("'op': 'head_scale', 'site': 'blocks.2.attn.hook_z', 'heads': [5], 'scale': 0.5"));
    assertArrayEquals(new int[] {5}, edit.heads());
    assertEquals(0.5f, edit.scale());
  }

  @Test
  void readsVectorsAsTheyAreToAddAndAsDirectionsToProject() {
    String vector = "'site': 'blocks.0.hook_resid_post', 'vector': 'v.safetensors#v'";
    Edit.Add add = assertInstanceOf(Edit.Add.class, edit("'op': 'add', " + vector));
    assertEquals(1, add.scale());
    assertEquals(3, add.vector()[0]);
    Edit.Ablate ablate = assertInstanceOf(Edit.Ablate.class, edit("'op': 'ablate', " + vector));
    assertEquals(0.6f, ablate.unit()[0]);
    assertEquals(0.8f, ablate.unit()[1]);
    Edit.Project clamp =
        assertInstanceOf(Edit.Project.class, edit("'op': 'project_clamp', 'max': 2, " + vector));
    assertEquals(-INFINITY, clamp.min());
    assertEquals(2, clamp.max());
    assertEquals(1, ablate.strength());
    assertEquals(1, clamp.strength());
    String half = "'strength': -0.5, " + vector;
    ablate = assertInstanceOf(Edit.Ablate.class, edit("'op': 'ablate', " + half));
    assertEquals(-0.5f, ablate.strength());
    clamp = assertInstanceOf(Edit.Project.class, edit("'op': 'project_clamp', 'min': 2, " + half));
    assertEquals(-0.5f, clamp.strength());
  }

  /** A concept of a dictionary is the vector that its row is, taken from the site's layer. */
  @Test
  void readsAConceptOfADictionaryAsAVector() {
    float[] rows = new float[3 * 48];
    for (int i = 0; i < rows.length; i++) {
      rows[i] = (i % 7 - 3) * 0.5f;
    }
    float[] other = new float[rows.length];
    other[48] = 1;
    Map<String, String> names = Map.of("names", "[\"rude\",\"polite\",\"rude\"]");
    List<TensorSpec> specs =
        List.of(
            new TensorSpec("atoms.1", DType.F32, 3, 48),
            new TensorSpec("atoms.2", DType.F32, 3, 48));
    Path file = folder.resolve("concepts.safetensors");
    try (SafetensorsWriter out = SafetensorsWriter.create(file, names, specs)) {
      out.write("atoms.1", rows);
      out.write("atoms.2", other);
    }
    float[] polite = Arrays.copyOfRange(rows, 48, 96);
    Path row = folder.resolve("polite.safetensors");
    List<TensorSpec> spec = List.of(new TensorSpec("v", DType.F32, 48));
    try (SafetensorsWriter out = SafetensorsWriter.create(row, Map.of(), spec)) {
      out.write("v", polite);
    }
    String concept = "'vector': {'dictionary': 'concepts.safetensors', 'concept': 'polite'}";
    for (String op : List.of("'op': 'ablate', ", "'op': 'project_clamp', 'max': 1, ")) {
      String site = op + "'site': 'blocks.1.hook_resid_post', ";
      assertArrayEquals(
          unit(edit(site + "'vector': 'polite.safetensors'")), unit(edit(site + concept)));
    }
    Edit.Add add = (Edit.Add) edit("'op': 'add', 'site': 'blocks.1.hook_mlp_out', " + concept);
    assertArrayEquals(polite, add.vector());
    String shifted = "'op': 'add', 'site': 'blocks.1.hook_mlp_out', 'layer_shift': 1, " + concept;
    assertEquals(1, ((Edit.Add) edit(shifted)).vector()[0]);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "1 | {'dictionary': 'two.safetensors', 'concept': 'Polit'}  | nearest of its 2 is \"polite\"",
        "1 | {'dictionary': 'two.safetensors', 'concept': ''}       | nearest of its 2 is \"rude\"",
        "0 | {'dictionary': 'two.safetensors', 'concept': 'rude'}   | layers [1]",
        "1 | {'dictionary': 'two.safetensors'}                      | vector.concept",
        "1 | {'concept': 'rude'}                                    | vector.dictionary",
        "1 | {'dictionary': 'none.safetensors', 'concept': 'rude'}  | none.safetensors",
        "1 | {'dictionary': 'v.safetensors', 'concept': 'rude'}     | is no dictionary",
        "1 | {'dictionary': 'thin.safetensors', 'concept': '0'}     | the model's d_model is 48",
        "1 | {'dictionary': 'two.safetensors', 'name': 'rude'}      | unknown key",
        "1 | {'dictionary': 'a\\u0000b', 'concept': 'rude'}         | the name of a file",
        "1 | ['two.safetensors', 'rude']                            | vector",
      })
  void refusesAConceptThatIsNotThere(int layer, String vector, String part) {
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            folder.resolve("two.safetensors"),
            Map.of("names", "[\"rude\",\"polite\"]"),
            List.of(new TensorSpec("atoms.1", DType.F32, 2, 48)))) {
      out.write("atoms.1", new float[2 * 48]);
    }
    try (SafetensorsWriter out =
        SafetensorsWriter.create(
            folder.resolve("thin.safetensors"),
            Map.of(),
            List.of(new TensorSpec("atoms", DType.F32, 1, 47)))) {
      out.write("atoms", new float[47]);
    }
    String json =
        "'op': 'add', 'site': 'blocks.%d.hook_resid_pre', 'vector': %s".formatted(layer, vector);
    var error = assertThrows(BadFileException.class, () -> edit(json));
    assertTrue(error.getMessage().contains(part), error.getMessage());
  }

  @Test
  void theNearerWhenCounts() {
    SteeringPlan plan =
        parse(
            "{'interventions': [{'op': 'head_scale', 'site': 'blocks.0.attn.hook_z', 'heads': [0],"
                + " 'scale': 2}, {'op': 'head_scale', 'site': 'blocks.0.attn.hook_z', 'heads':"
                + " [0], 'scale': 2, 'when': {'generation': 'all'}}], 'when': {'prompt': 'all'}}");
    assertTrue(plan.interventions().get(0).trigger().selectsPrompt(0, 1, 0));
    assertTrue(!plan.interventions().get(1).trigger().selectsPrompt(0, 1, 0));
    assertTrue(plan.interventions().get(1).trigger().selectsGenerated(0, 0));
  }

  @Test
  void composesInOrder() {
    SteeringPlan a = SteeringPlan.of(Edit.clamp(new Site(Site.Kind.POST, 0), 1, 1));
    SteeringPlan b = SteeringPlan.of(Edit.clamp(new Site(Site.Kind.POST, 0), 1, 2));
    SteeringPlan both = a.then(b);
    assertSame(a.interventions().get(0), both.interventions().get(0));
    assertSame(b.interventions().get(0), both.interventions().get(1));
    assertSame(a, a.then(SteeringPlan.NONE));
    assertSame(a, SteeringPlan.NONE.then(a));
  }

  @Test
  void aFingerprintIsOfWhatAPlanDoesAndNotOfItsName() {
    String add = "{'op': 'add', 'site': 'blocks.0.hook_resid_post', 'vector': 'v.safetensors#v'%s}";
    String clamp =
        "{'op': 'neuron_clamp', 'site': 'blocks.0.mlp.hook_post', 'neurons': [1], 'value': 2}";
    String when = ", 'when': {'prompt_positions': %s, 'generation': 'all'}";
    String plain = parse("{'interventions': [" + add.formatted("") + "]}").fingerprint();
    assertEquals(32, plain.length());
    assertEquals(
        plain,
        parse("{'name': 'x', 'interventions': [" + add.formatted(", 'scale': 1.0") + "]}")
            .fingerprint());
    String placed = add.formatted(when.formatted("[0, -1]"));
    assertEquals(
        parse("{'interventions': [" + placed + "]}").fingerprint(),
        parse("{'interventions': [" + add.formatted(when.formatted("[-1, 0, 0]")) + "]}")
            .fingerprint());
    List<String> others =
        List.of(
            add.formatted(", 'scale': 1.001"),
            add.formatted("").replace("resid_post", "resid_pre"),
            add.formatted("").replace("blocks.0", "blocks.1"),
            placed,
            add.formatted(when.formatted("[0]")),
            clamp,
            clamp + ", " + add.formatted(""),
            add.formatted("") + ", " + clamp,
            add.formatted("") + ", " + add.formatted(""),
            clamp.replace("[1]", "[2]"));
    Set<String> distinct = new HashSet<>(Set.of(plain, SteeringPlan.NONE.fingerprint()));
    others.forEach(each -> distinct.add(parse("{'interventions': [" + each + "]}").fingerprint()));
    assertEquals(others.size() + 2, distinct.size());
  }

  /** Each line: an intervention and what the message must say. Z, N, R are good beginnings. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "'op': 'clamp'                                       | one of neuron_clamp, head_scale",
        "'site': 'blocks.0.attn.hook_z'                      | op",
        "Z, 'heads': [6], 'scale': 1                         | 0 to 5",
        "Z, 'heads': [-1], 'scale': 1                        | 0 to 5",
        "Z, 'heads': [1, 1], 'scale': 1                      | distinct",
        "Z, 'heads': [], 'scale': 1                          | distinct integers from 0 to 5",
        "Z, 'heads': 1, 'scale': 1                           | distinct integers from 0 to 5",
        "Z, 'heads': [1]                                     | scale",
        "Z, 'heads': [1], 'scale': 1e31                      | -1.0E30 to 1.0E30",
        "Z, 'heads': [1], 'scale': 'x'                       | scale",
        "Z, 'head': [1], 'scale': 1                          | unknown key \"interventions[0].head\"",
        "'op': 'head_scale', 'site': 'blocks.3.attn.hook_z', 'heads': [0], 'scale': 1 | 0 to 2",
        "'op': 'head_scale', 'site': 'blocks.0.attn.hook_q', 'heads': [0], 'scale': 1 | hook_z",
        "'op': 'head_scale', 'site': 'blocks.*.attn.hook_z', 'heads': [0], 'scale': 1 | one site",
        "'op': 'head_scale', 'site': 'nowhere', 'heads': [0], 'scale': 1 | sites are",
        "N, 'neurons': [80], 'value': 1                      | 0 to 79",
        "N, 'neurons': [0]                                   | exactly one of",
        "N, 'neurons': [0], 'value': 1, 'scale': 1           | exactly one of",
        "N, 'neurons': [0], 'value': 1, 'min': 1             | exactly one of",
        "N, 'neurons': [0], 'min': 2, 'max': 1               | at most max",
        "'op': 'neuron_clamp', 'site': 'blocks.0.hook_mlp_out', 'neurons': [0], 'value': 1"
            + " | hook_pre_linear",
        "R, 'vector': 'v.safetensors'                        | 3 tensors",
        "R, 'vector': 'v.safetensors#w'                      | w",
        "R, 'vector': 'v.safetensors#short'                  | 48",
        "R, 'vector': 'absent.safetensors'                   | absent.safetensors",
        "R, 'vector': 'v.txt'                                | FILE.safetensors",
        "R                                                   | vector",
        "R, 'vector': 'v.safetensors#v', 'layer_shift': 4    | -3 to 3",
        "'op': 'ablate', 'site': 'blocks.0.hook_resid_mid', 'vector': 'v.safetensors#zero'"
            + " | no direction",
        "'op': 'ablate', 'site': 'blocks.0.attn.hook_z', 'vector': 'v.safetensors#v' | d_model site",
        "'op': 'ablate', 'site': 'hook_embed', 'vector': 'v.safetensors#v', 'scale': 1 | scale",
        "'op': 'project_clamp', 'site': 'hook_embed', 'vector': 'v.safetensors#v' | max",
        "'op': 'project_clamp', 'site': 'hook_embed', 'vector': 'v.safetensors#v', 'min': 1,"
            + " 'max': 0 | at most max",
      })
  void refusesNamingTheKeyAndTheAllowedRange(String intervention, String part) {
    String json =
        intervention
            .replaceFirst("^Z", "'op': 'head_scale', 'site': 'blocks.0.attn.hook_z'")
            .replaceFirst("^N", "'op': 'neuron_clamp', 'site': 'blocks.0.mlp.hook_pre'")
            .replaceFirst("^R", "'op': 'add', 'site': 'blocks.0.hook_resid_pre'");
    var error = assertThrows(BadFileException.class, () -> edit(json));
    assertTrue(error.getMessage().contains(part), error.getMessage());
    assertEquals(1, error.getMessage().lines().count());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{}                                    | interventions",
        "{'interventions': []}                 | at least one intervention",
        "{'interventions': [1]}                | a list of objects",
        "{'interventions': {}}                 | a list of objects",
        "{'intervention': []}                  | unknown key",
        "{'interventions': [], 'name': 1}      | interventions",
        "[]                                    | not a JSON object",
        "{'interventions': [{}]} 1            | after",
      })
  void refusesPlansOfAnotherForm(String plan, String part) {
    var error = assertThrows(BadFileException.class, () -> parse(plan));
    assertTrue(error.getMessage().contains(part), error.getMessage());
  }

  @Test
  void readsAPlanFileAndFindsItsVectorsBesideIt() throws Exception {
    Path file = folder.resolve("plan.json");
    String add = "{'op': 'add', 'site': 'hook_embed', 'vector': 'v.safetensors#v', 'scale': -2}";
    Files.writeString(file, ("{'name': 'n', 'interventions': [" + add + "]}").replace('\'', '"'));
    SteeringPlan plan = SteeringPlan.read(file, CONFIG);
    assertEquals("n", plan.name());
    assertEquals("add", plan.interventions().getFirst().op());
  }

  private static Edit edit(String intervention) {
    return parse("{'interventions': [{" + intervention + "}]}").interventions().getFirst().edit();
  }

  private static SteeringPlan parse(String json) {
    return SteeringPlan.parse(json.replace('\'', '"'), folder, CONFIG);
  }

  private static float[] unit(Edit edit) {
    return switch (edit) {
      case Edit.Ablate ablate -> ablate.unit();
      case Edit.Project project -> project.unit();
      default -> throw new AssertionError(edit.op());
    };
  }
}
