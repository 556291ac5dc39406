package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * What Java and the kernels both name is the same on both sides: constants and enumerations listed
 * here, and every record that a {@link Struct} packs.
 */
class SharedWithKernelsTest {
  private static final Path KERNELS = Path.of("cuda-kernels");
  private static final Path MAIN = Path.of("src/main/java");

  /** A field of a structure, as Java names and types it. */
  private record Part(String type, String name) {}

  @ParameterizedTest
  @CsvSource({
    // class, constant, file of cuda-kernels, its constant
    "dev.halter.model.KvCache,              PAGE,          kv_cache.cuh,       PAGE",
    "dev.halter.model.Attention,            ROPE_ROWS,     qkv.cu,             ROPE_ROWS",
    "dev.halter.model.Attention$Split,      KEYS,          attention_sm80.cu,  SPLIT",
    "dev.halter.model.Attention$Split,      PACKED,        attention.cu,       PACKED",
    "dev.halter.sparse.SparseRows,          RUNNING,       sparse.cuh,         RUNNING",
    "dev.halter.sparse.SparseRows,          DONE,          sparse.cuh,         DONE",
    "dev.halter.sparse.SparseRows,          NOT_FINITE,    sparse.cuh,         NOT_FINITE",
    "dev.halter.sparse.SparseRows,          FULL,          sparse.cuh,         FULL",
    "dev.halter.sparse.Screening,           MOST_IN_CHUNK, sparse_screen.cu,   MOST_IN_CHUNK",
    "dev.halter.sparse.PursuitCoder,        ATOMS,         sparse_start.cu,    ATOMS",
    "dev.halter.steering.ConceptRemoval,    SOLVE,         remove_concepts.cu, SOLVE",
    "dev.halter.steering.ConceptRemoval,    APPLY,         remove_concepts.cu, APPLY",
    "dev.halter.steering.ConceptRemoval,    NAMED,         remove_concepts.cu, NAMED",
    "dev.halter.generation.Sampler,         IN_PROMPT,     sample.cu,          IN_PROMPT",
    "dev.halter.generation.Sampler,         IS_STOP,       sample.cu,          IS_STOP",
    "dev.halter.generation.Sampler,         IS_ALLOWED,    sample.cu,          IS_ALLOWED",
    "dev.halter.generation.Sampler,         STOPS_ARE_EARLY, sample.cu,        STOPS_ARE_EARLY",
    "dev.halter.generation.Sampler,         ONLY_ALLOWED,  sample.cu,          ONLY_ALLOWED",
    "dev.halter.generation.Sampler,         COUNTS,        sample.cu,          COUNTS",
    "dev.halter.generation.Sampler,         SEGMENT,       sample.cu,          SEGMENT",
    "dev.halter.generation.Sampler,         PART,          sample.cu,          PART",
    "dev.halter.generation.Sampler,         PROGRESS_BYTES, sample.cu,         PROGRESS_BYTES",
    "dev.halter.generation.Sampler,         VIEW_BYTES,    sample.cu,          VIEW_BYTES",
    "dev.halter.generation.Sampler,         CUTS_BYTES,    sample.cu,          CUTS_BYTES",
    "dev.halter.gradients.AttentionBackward, OWN,           attention_backward.cu, OWN",
    "dev.halter.gradients.AttentionBackward, OTHERS,        attention_backward.cu, OTHERS",
    "dev.halter.device.cuda.TensorTop,      SEGMENT,       top_epilogue.cuh,   SEGMENT",
    "dev.halter.device.cuda.TensorTop,      ROWS,          multiply_top_sm80.cu, TILE",
    "dev.halter.device.cuda.TensorTop,      ROWS,          multiply_top_sm90.cu, ROWS",
    "dev.halter.device.cuda.TensorTop,      ROWS,          multiply_top_sm90.cu, BOX_ROWS",
  })
  void constantsAreEqual(String owner, String name, String file, String constant)
      throws ReflectiveOperationException {
    Field field = Class.forName(owner).getDeclaredField(name);
    field.setAccessible(true);
    assertEquals(constant(KERNELS.resolve(file), constant), field.getInt(null));
  }

  @ParameterizedTest
  @CsvSource({
    // enum, its field, file beside cuda-kernels or in it, its enum, what names begin with there
    "dev.halter.model.SteerOps$SteerKind,      number, steer.cuh,          SteerKind, STEER_",
    "dev.halter.device.Top$Sign,               number, top_tokens.cu,      TopSign,   TOP_",
    "dev.halter.device.Top$Sign,               number, ../native/include/halter.h, HalterTop, HALTER_TOP_",
    "dev.halter.device.cpu.Schedule,           number, ../native/include/halter.h, HalterSchedule, HALTER_",
    "dev.halter.neurons.NeuronMap$Decode,      number, neuron_vectors.cu,  Decode,    DECODE_",
  })
  void enumerationsAreEqual(
      String owner, String number, String file, String enumeration, String prefix)
      throws ReflectiveOperationException {
    Class<?> type = Class.forName(owner);
    Field field = type.getDeclaredField(number);
    field.setAccessible(true);
    Map<String, Integer> values = new TreeMap<>();
    for (Object value : type.getEnumConstants()) {
      values.put(prefix + value, field.getInt(value));
    }
    assertEquals(enumeration(read(KERNELS.resolve(file)), enumeration), values);
  }

  @Test
  void typesOfMatricesAreEqual() throws ReflectiveOperationException {
    Method number =
        Class.forName("dev.halter.device.cpu.Call").getDeclaredMethod("number", DType.class);
    number.setAccessible(true);
    Map<String, Integer> values = new TreeMap<>();
    for (DType type : DType.values()) {
      if (type.isWeight()) {
        values.put("HALTER_" + type, (int) number.invoke(null, type));
      }
    }
    assertEquals(enumeration(read(Path.of("native/include/halter.h")), "HalterType"), values);
  }

  @Test
  void everyRecordThatIsPackedIsTheKernelsStructure() throws IOException {
    String java = text(MAIN, ".java");
    String kernels = text(KERNELS, ".cuh", ".cu");
    TreeSet<String> packed = new TreeSet<>();
    Pattern.compile("\\bStruct<(\\w{2,})>")
        .matcher(java)
        .results()
        .forEach(m -> packed.add(m.group(1)));
    assertTrue(packed.containsAll(List.of("SparseRows", "SteerOp")), packed.toString());
    for (String name : packed) {
      List<Part> structure = structure(kernels, name);
      assertFalse(structure.isEmpty(), name);
      assertEquals(structure, components(java, name), name);
    }
  }

  @Test
  void whatIsReadIsWhatIsThere() {
    assertEquals(128, constant(KERNELS.resolve("attention_sm80.cu"), "THREADS"));
    assertThrows(
        AssertionError.class, () -> constant(KERNELS.resolve("attention_sm80.cu"), "NOTHING"));
    assertEquals(
        Map.of("A", 1, "B", 4), enumeration("enum E {  // all\n A = 1,  // x\n B = 4,\n};", "E"));
    String structure =
        """
        struct S {
            const void* the_first;  // [n]; of some
            long long count;
            float a;
            S at(int i) const {
                return {};
            }
        };
        """;
    assertEquals(
        List.of(new Part("Buffer", "theFirst"), new Part("long", "count"), new Part("float", "a")),
        structure(structure, "S"));
    assertEquals(
        List.of(new Part("Buffer", "theFirst"), new Part("int", "n")),
        components("private record S(\n    Buffer theFirst, int n) {}", "S"));
  }

  /** The value of a constant of a kernels' file, which may be a product of others there. */
  private static int constant(Path file, String name) {
    String source = read(file);
    Matcher matcher =
        Pattern.compile("(?:constexpr int|,)\\s[^;(){}]*?\\b" + name + " = ([\\w *]+)[,;]")
            .matcher(source);
    if (matcher.find()) {
      return Stream.of(matcher.group(1).split("\\*"))
          .map(String::strip)
          .mapToInt(
              factor -> factor.matches("\\d+") ? Integer.parseInt(factor) : constant(file, factor))
          .reduce(1, (a, b) -> a * b);
    }
    Matcher included = Pattern.compile("#include \"(\\w+\\.cuh)\"").matcher(source);
    while (included.find()) {
      try {
        return constant(KERNELS.resolve(included.group(1)), name);
      } catch (AssertionError e) {
        // not there
      }
    }
    throw new AssertionError(file + " has no constant " + name);
  }

  private static Map<String, Integer> enumeration(String source, String name) {
    String text = uncommented(source);
    int from = text.indexOf("enum " + name + " {");
    assertTrue(from >= 0, "no enum " + name);
    Map<String, Integer> values = new LinkedHashMap<>();
    Matcher matcher =
        Pattern.compile("(\\w+) = (\\d+)").matcher(text.substring(from, text.indexOf("};", from)));
    while (matcher.find()) {
      values.put(matcher.group(1), Integer.parseInt(matcher.group(2)));
    }
    return values;
  }

  private static List<Part> structure(String source, String name) {
    String text = uncommented(source);
    int from = text.indexOf("struct " + name + " {");
    assertTrue(from >= 0, "the kernels have no struct " + name);
    String body = text.substring(from, text.indexOf("\n};", from));
    List<Part> parts = new ArrayList<>();
    Matcher matcher =
        Pattern.compile("(?m)^ {4}(?:const )?(long long|\\w+)(\\*?) (\\w+); *$").matcher(body);
    while (matcher.find()) {
      String type = matcher.group(1).equals("long long") ? "long" : matcher.group(1);
      parts.add(
          new Part(matcher.group(2).isEmpty() ? type : "Buffer", camelCase(matcher.group(3))));
    }
    return parts;
  }

  private static List<Part> components(String source, String name) {
    Matcher matcher = Pattern.compile("\\brecord " + name + "\\(([^()]*)\\)").matcher(source);
    assertTrue(matcher.find(), "there is no record " + name);
    return Arrays.stream(matcher.group(1).split(","))
        .map(component -> component.strip().split("\\s+"))
        .map(words -> new Part(words[0], words[1]))
        .toList();
  }

  private static String uncommented(String source) {
    return source.replaceAll("//[^\n]*", "");
  }

  private static String camelCase(String name) {
    return Pattern.compile("_(\\w)")
        .matcher(name)
        .replaceAll(m -> m.group(1).toUpperCase(Locale.ROOT));
  }

  private static String text(Path folder, String... endings) throws IOException {
    try (Stream<Path> files = Files.walk(folder)) {
      return files
          .filter(file -> Stream.of(endings).anyMatch(file.toString()::endsWith))
          .sorted()
          .map(SharedWithKernelsTest::read)
          .collect(Collectors.joining("\n"));
    }
  }

  private static String read(Path file) {
    try {
      return Files.readString(file);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
