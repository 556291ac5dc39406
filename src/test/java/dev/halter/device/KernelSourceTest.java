package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** What no run on a CPU shows, but the kernels' text does. */
class KernelSourceTest {
  private static final Path KERNELS = Path.of("cuda-kernels");

  /** What waits for other threads, or calls a header's function that does. */
  private static final Pattern WAITS =
      Pattern.compile(
          "__sync|__shfl|__any_sync|\\b(block|warp)_\\w+\\(|\\bsteer_row\\(|mbarrier_|cluster_sync|\\bteam\\.sync");

  private static final Pattern FUNCTION =
      Pattern.compile("\\b(\\w+)\\(((?:[^(){};]|\\([^()]*\\))*)\\)[\\s\\\\]*(?:const\\s*)?\\{");

  private static final Set<String> STATEMENTS = Set.of("if", "for", "while", "switch");

  private record Function(String name, String parameters, String body) {
    boolean waits() {
      return WAITS.matcher(body).find();
    }

    boolean calls(Set<String> names) {
      return names.stream()
          .anyMatch(name -> Pattern.compile("\\b" + name + "(<[^;()]*>)?\\(").matcher(body).find());
    }

    /** Parameters that may be written through, and are promised to have no other writer. */
    List<String> promises() {
      return Stream.of(parameters.split(","))
          .map(String::strip)
          .filter(each -> each.contains("__restrict__") && !each.contains("const"))
          .toList();
    }
  }

  private static List<Function> functions(String source) {
    String text = source.replaceAll("//[^\n]*", "");
    List<Function> found = new ArrayList<>();
    Matcher matcher = FUNCTION.matcher(text);
    for (int from = 0; matcher.find(from); from = matcher.end()) {
      int depth = 1;
      int end = matcher.end();
      while (depth > 0 && end < text.length()) {
        char c = text.charAt(end++);
        depth += c == '{' ? 1 : c == '}' ? -1 : 0;
      }
      if (!STATEMENTS.contains(matcher.group(1))) {
        String body = text.substring(matcher.end(), end);
        found.add(new Function(matcher.group(1), matcher.group(2), body));
      }
    }
    return found;
  }

  /** The broken promises of a file, each as {@code function: parameter}. */
  private static List<String> broken(String source) {
    List<Function> functions = functions(source);
    Set<String> waiting =
        functions.stream().filter(Function::waits).map(Function::name).collect(Collectors.toSet());
    while (true) {
      Set<String> more = new HashSet<>(waiting);
      functions.stream().filter(f -> f.calls(waiting)).map(Function::name).forEach(more::add);
      if (!waiting.addAll(more)) {
        break;
      }
    }
    return functions.stream()
        .filter(function -> waiting.contains(function.name))
        .flatMap(function -> function.promises().stream().map(each -> function.name + ": " + each))
        .toList();
  }

  /**
   * {@code __restrict__} on what a kernel writes lets nvcc keep a value in a register over a
   * barrier behind which another thread has changed it: on a card the threads of {@code active_set}
   * then went on with different counts and waited for each other for good. g++ does not do that.
   */
  @Test
  void whatThreadsTellEachOtherIsNotPromisedToHaveOneWriter() throws IOException {
    try (Stream<Path> files = Files.list(KERNELS)) {
      for (Path file : files.sorted().toList()) {
        String source = Files.readString(file);
        assertEquals(List.of(), broken(source), file.toString());
        if (source.contains("__global__ void") && source.contains("__syncthreads")) {
          assertTrue(functions(source).stream().anyMatch(Function::waits), file + " is not read");
        }
      }
    }
  }

  @Test
  void thePromiseIsSeenWhereItIsBroken() {
    String helper = "__device__ void all(int* x) { __syncthreads(); }\n";
    String kernel =
        """
        __device__ void step(int* __restrict__ counts, const int* __restrict__ in) {
          if (in[0] > 0) { counts[0] = 1; }
          all(counts);
        }
        """;
    assertEquals(List.of("step: int* __restrict__ counts"), broken(helper + kernel));
    assertEquals(List.of(), broken(kernel));
  }
}
