package dev.halter.cli.concepts;

import dev.halter.cli.ModelOptions;
import dev.halter.cli.OptionValue;
import dev.halter.cli.OutputOptions;
import dev.halter.cli.PromptOptions;
import dev.halter.cli.WrongUseException;
import dev.halter.device.Device;
import dev.halter.files.Json;
import dev.halter.files.WholeFile;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.sparse.Code;
import dev.halter.sparse.CodingPlan;
import dev.halter.sparse.Dictionary;
import dev.halter.sparse.DictionaryFile;
import dev.halter.sparse.Solver;
import dev.halter.sparse.SparseCoder;
import dev.halter.sparse.Vectors;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "decompose",
    description = "Codes vectors, or the activation of a prompt's last token, over a dictionary.")
final class DecomposeCommand implements Callable<Integer> {
  /** Vectors that are coded at once, where memory allows. */
  private static final int TOGETHER = 256;

  @Mixin ModelOptions options;
  @Mixin SolverOptions solvers;

  @Option(
      names = "--dictionary",
      paramLabel = "D",
      required = true,
      description = "Dictionary: a safetensors file or a SAELens folder.")
  Path path;

  @ArgGroup(multiplicity = "1")
  Source source;

  /** Vectors of a file, or a prompt. */
  static final class Source {
    @Option(
        names = "--vectors",
        paramLabel = "F",
        required = true,
        description = "F.safetensors or F.safetensors#tensor, a vector in each row.")
    String vectors;

    @ArgGroup(multiplicity = "1")
    PromptOptions prompt;
  }

  @Option(
      names = "--layer",
      paramLabel = "L",
      description = "Layer of the prompt's activation and of the dictionary.")
  Integer layer;

  @Option(
      names = "--site",
      paramLabel = "S",
      defaultValue = "hook_resid_post",
      description = "Site of the prompt's activation in its layer (default: ${DEFAULT-VALUE}).")
  String site;

  @Option(names = "--out", paramLabel = "F", description = "Codes to write, as JSON.")
  Path out;

  @Option(
      names = "--top",
      paramLabel = "N",
      defaultValue = "10",
      description =
          "Atoms of each vector to show, by what they add: coefficient times length (default:"
              + " ${DEFAULT-VALUE}).")
  int top;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    OptionValue.requireAtLeastOne("--top", top);
    try (DictionaryFile file = DictionaryFile.open(path)) {
      Solver solver = solvers.solver(Math.min(file.size(), file.width()));
      if (source.vectors != null) {
        float[] vectors = Vectors.read(source.vectors, file.width());
        try (Device device = options.openDevice()) {
          return decompose(file, device, solver, vectors);
        }
      }
      if (layer == null) {
        throw new WrongUseException("a prompt has an activation in each layer: say --layer L");
      }
      try (LanguageModel model = options.open(1)) {
        float[] activation = lastToken(model);
        return decompose(file, model.device(), solver, activation);
      }
    }
  }

  private float[] lastToken(LanguageModel model) {
    String where = "blocks." + layer + "." + site;
    return model.read(Request.of(source.prompt.tokens(model)), where).at(where, -1);
  }

  private int decompose(DictionaryFile file, Device device, Solver solver, float[] vectors) {
    try (Dictionary dictionary = layer == null ? file.load(device) : file.load(device, layer)) {
      int rows = vectors.length / dictionary.width();
      CodingPlan plan = CodingPlan.of(dictionary, solver, Math.clamp(rows, 1, TOGETHER), rows);
      dictionary.notes().forEach(note -> System.err.println("dictionary: " + note));
      System.err.println("plan: " + plan);
      List<Code> codes;
      try (SparseCoder coder = new SparseCoder(dictionary, solver, plan)) {
        codes = coder.solve(vectors);
      }
      Map<String, Object> document =
          Json.object("codes", codes.stream().map(DecomposeCommand::document).toList());
      if (out != null) {
        WholeFile.write(out, text -> text.write(Json.text(document) + "\n"));
      }
      if (output.isJson()) {
        output.print(document);
      } else {
        print(dictionary, codes);
      }
      return report(codes);
    }
  }

  private static Map<String, Object> document(Code code) {
    Map<String, Object> document =
        Json.object(
            "support", code.support(),
            "coefficients", code.coefficients(),
            "objective", code.objective(),
            "residual_norm", code.residualNorm(),
            "iterations", code.iterations(),
            "kkt", code.kkt());
    if (code.error() != null) {
      document.put("error", code.error());
    }
    return document;
  }

  private void print(Dictionary dictionary, List<Code> codes) {
    for (int row = 0; row < codes.size(); row++) {
      Code code = codes.get(row);
      System.out.printf(
          "vector %d: %d atoms, objective %.6g, residual norm %.4g, %d rounds, kkt %.1e%n",
          row,
          code.support().length,
          code.objective(),
          code.residualNorm(),
          code.iterations(),
          code.kkt());
      List<Integer> order = new ArrayList<>();
      IntStream.range(0, code.support().length).forEach(order::add);
      // By what they add to the vector, whatever length an atom has in its file.
      order.sort((a, b) -> Double.compare(share(dictionary, code, b), share(dictionary, code, a)));
      for (int place : order.subList(0, Math.min(top, order.size()))) {
        int atom = code.support()[place];
        System.out.printf(
            "  %12.5g  %s (%d)%n",
            code.coefficients()[place] * dictionary.norm(atom), dictionary.name(atom), atom);
      }
      if (order.size() > top) {
        System.out.printf("  and %d more%n", order.size() - top);
      }
    }
  }

  private static double share(Dictionary dictionary, Code code, int place) {
    return Math.abs(code.coefficients()[place]) * dictionary.norm(code.support()[place]);
  }

  /** Names the vectors that have no code; returns the exit code. */
  private static int report(List<Code> codes) {
    int failed = 0;
    for (int row = 0; row < codes.size(); row++) {
      if (codes.get(row).error() != null) {
        failed++;
        System.err.println("halter: vector " + row + ": " + codes.get(row).error());
      }
    }
    if (failed > 0) {
      System.err.printf("halter: %d of %d vectors failed%n", failed, codes.size());
    }
    return failed > 0 ? 1 : 0;
  }
}
