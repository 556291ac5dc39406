package dev.halter.cli;

import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import dev.halter.generation.Sampling;
import dev.halter.weights.JsonObject;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "batch",
    description = {
      "Answers every line of a JSONL file, each steered by its own plan.",
      "A line: {\"id\", \"prompt\"|\"messages\"|\"tokens\", \"plan\"?, \"max_tokens\"?,",
      "\"temperature\"?, \"top_p\"?, \"top_k\"?, \"seed\"?}; \"plan\" is a file or a plan."
    })
final class BatchCommand implements Callable<Integer> {
  @Mixin ModelOptions options;
  @Mixin SamplingOptions sampling;

  @Option(names = "--in", paramLabel = "F", required = true, description = "Input lines.")
  Path in;

  @Option(names = "--out", paramLabel = "F", required = true, description = "Result lines.")
  Path out;

  @Option(
      names = "--plan",
      paramLabel = "F",
      description = "Steering plan for every line, before the line's own.")
  List<Path> plans = new ArrayList<>();

  @Option(
      names = "--max-tokens",
      paramLabel = "N",
      defaultValue = "256",
      description = "Most tokens per line that names none (default: ${DEFAULT-VALUE}).")
  int maxTokens;

  @Option(
      names = "--max-batch",
      paramLabel = "N",
      defaultValue = "0",
      description = "Most lines at once (default: as suits the device).")
  int maxBatch;

  @Option(names = "--resume", description = "Do only the lines that --out has no result of.")
  boolean resume;

  @Override
  public Integer call() throws IOException {
    long total = InputLine.Reader.count(in);
    try (ResultFile results = new ResultFile(out, resume);
        LanguageModel model = options.open(maxBatch);
        InputLine.Reader lines =
            new InputLine.Reader(
                in, "plan", "max_tokens", "temperature", "top_p", "top_k", "seed");
        ProgressBar bar = new ProgressBar("batch", total)) {
      Run run = new Run(model, lines, results, bar);
      model.engine().run(run, run::finish);
      if (run.failed > 0) {
        System.err.printf(
            "halter: %d of %d lines failed: their results hold an \"error\"%n", run.failed, total);
        return 1;
      }
      return 0;
    }
  }

  /** Input lines as requests; lines that cannot be requests are answered with their error. */
  private final class Run implements Iterator<Request> {
    private final LanguageModel model;
    private final InputLine.Reader lines;
    private final ResultFile results;
    private final ProgressBar bar;
    private final InputLine.PlanCache cache;
    private final IdentityHashMap<Request, InputLine> running = new IdentityHashMap<>();
    private Request next;
    private long done;
    private int failed;

    Run(LanguageModel model, InputLine.Reader lines, ResultFile results, ProgressBar bar) {
      this.model = model;
      this.lines = lines;
      this.results = results;
      this.bar = bar;
      this.cache =
          new InputLine.PlanCache(
              model, in.toAbsolutePath().getParent(), Plans.read(plans, model.config()));
    }

    @Override
    public boolean hasNext() {
      while (next == null && lines.hasNext()) {
        InputLine line = lines.next();
        if (results.has(line)) {
          bar.at(++done);
        } else if (line.error() != null) {
          fail(line, line.error());
        } else {
          try {
            next = request(line);
            running.put(next, line);
          } catch (IllegalArgumentException e) {
            fail(line, e.getMessage());
          }
        }
      }
      return next != null;
    }

    @Override
    public Request next() {
      if (!hasNext()) {
        throw new NoSuchElementException();
      }
      Request request = next;
      next = null;
      return request;
    }

    private Request request(InputLine line) {
      JsonObject json = line.json();
      Sampling sampler =
          new Sampling(
              (float) json.number("temperature", 0, 1e6, sampling.temperature),
              json.integer("top_k", 0, Integer.MAX_VALUE, sampling.topK),
              (float) json.number("top_p", 0, 1, sampling.topP),
              (long) json.number("seed", -9e15, 9e15, (double) sampling.seed));
      return new Request(
          line.id().toString(),
          line.prompt(model),
          json.integer("max_tokens", 0, Integer.MAX_VALUE, maxTokens),
          sampler,
          model.stopTokens(),
          cache.of(line),
          null,
          null);
    }

    void finish(Result result) {
      InputLine line = running.remove(result.request());
      if (result.failure() != null) {
        fail(line, result.failure().getMessage());
        return;
      }
      Map<String, Object> document = Json.object("id", line.id());
      document.putAll(Json.result(result, model.decode(result.tokens())));
      results.write(document);
      bar.at(++done);
    }

    private void fail(InputLine line, String problem) {
      failed++;
      String error = line.failure(problem);
      System.err.println("halter: " + in + ", " + error);
      results.write(Json.object("id", line.id(), "line", line.number(), "error", error));
      bar.at(++done);
    }
  }
}
