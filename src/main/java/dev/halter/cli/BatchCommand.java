package dev.halter.cli;

import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.RequestJson;
import dev.halter.generation.Result;
import dev.halter.generation.ResultJson;
import dev.halter.steering.PlanCache;
import dev.halter.steering.SteeringPlan;
import java.io.IOException;
import java.nio.file.Files;
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
      "\"min_tokens\"?, \"ignore_eos\"?, \"temperature\"?, \"top_p\"?, \"top_k\"?, \"min_p\"?, \"seed\"?,",
      "\"repetition_penalty\"?, \"presence_penalty\"?, \"frequency_penalty\"?, \"logit_bias\"?,",
      "\"allowed_token_ids\"?, \"logprobs\"?, \"prompt_logprobs\"?, \"logprob_token_ids\"?}; \"plan\" is a",
      "file or a plan, and what a line leaves out is as the options say.",
      "A line without a seed draws by its own stream, which --seed and its id decide."
    })
final class BatchCommand implements Callable<Integer> {
  @Mixin ModelOptions options;
  @Mixin SamplingOptions sampling;
  @Mixin EndingOptions ending;
  @Mixin LogProbabilityOptions logprobs;

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
      defaultValue = "" + Request.MAX_TOKENS,
      description = "Most tokens per line that names none (default: ${DEFAULT-VALUE}).")
  int maxTokens;

  @Option(
      names = "--max-batch",
      paramLabel = "N",
      defaultValue = "0",
      description = "Most lines at once (default: as suits the device).")
  int maxBatch;

  @Option(
      names = "--resume",
      description = "Do only the lines that --out has no answer of; failed ones are tried again.")
  boolean resume;

  @Mixin ShardOptions shards;
  @Mixin OutputOptions output;

  /** What is so for lines that do not say. */
  private RequestJson requests;

  @Override
  public Integer call() throws IOException {
    if (maxTokens < 0) {
      throw new WrongUseException("--max-tokens is " + maxTokens + ", must be 0 or more");
    }
    ending.check();
    requests =
        new RequestJson(
            maxTokens, ending.minTokens, ending.ignoreEos, sampling.sampling(), logprobs.told());
    if (Files.exists(in) && Files.exists(out) && Files.isSameFile(in, out)) {
      throw new WrongUseException("--in and --out are the same file, " + in);
    }
    try (InputLine.Reader lines =
            new InputLine.Reader(in, shards.shard(), RequestJson.KEYS.toArray(String[]::new));
        ResultFile results = new ResultFile(out, resume);
        LanguageModel model = options.open(maxBatch);
        ProgressBar bar = new ProgressBar("batch", lines.size())) {
      Run run = new Run(model, lines, results, bar);
      if (model.hasTokenizer()) {
        model.tokenizer(); // a broken one is an error of the folder, not of each line
      }
      model.engine().run(run, run::finish);
      report(run);
      return run.failed > 0 ? 1 : 0;
    }
  }

  private void report(Run run) {
    long answered = run.done - run.skipped - run.failed;
    if (output.isJson()) {
      output.print(
          Json.object(
              "lines",
              run.done,
              "answered",
              answered,
              "failed",
              run.failed,
              "skipped",
              run.skipped,
              "out",
              out.toString()));
    } else {
      System.out.printf(
          "%,d lines: %,d answered, %,d failed, %,d done before: %s%n",
          run.done, answered, run.failed, run.skipped, out);
    }
    if (run.failed > 0) {
      System.err.printf(
          "halter: %d of %d lines failed: their results hold an \"error\"%n", run.failed, run.done);
    }
  }

  /** Input lines as requests; lines that cannot be requests are answered with their error. */
  private final class Run implements Iterator<Request> {
    private final LanguageModel model;
    private final InputLine.Reader lines;
    private final ResultFile results;
    private final ProgressBar bar;
    private final PlanCache cache;
    private final IdentityHashMap<Request, InputLine> running = new IdentityHashMap<>();
    private Request next;
    private long done;
    private int failed;
    private int skipped;

    Run(LanguageModel model, InputLine.Reader lines, ResultFile results, ProgressBar bar) {
      this.model = model;
      this.lines = lines;
      this.results = results;
      this.bar = bar;
      this.cache =
          new PlanCache(
              model.config(),
              in.toAbsolutePath().getParent(),
              SteeringPlan.readAll(plans, model.config()));
    }

    @Override
    public boolean hasNext() {
      while (next == null && lines.hasNext()) {
        InputLine line = lines.next();
        if (line.error() != null) {
          fail(line, line.error());
        } else if (results.has(line)) {
          skipped++;
          bar.at(++done);
        } else {
          try {
            next = requests.request(line.json(), line.id().toString(), model, cache);
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

    void finish(Result result) {
      InputLine line = running.remove(result.request());
      if (result.failure() != null) {
        fail(line, result.failure().getMessage());
        return;
      }
      Map<String, Object> document = Json.object("id", line.id());
      document.putAll(
          ResultJson.of(
              result,
              model.hasTokenizer() ? model.decode(result.tokens()) : null,
              requests.tellsLogProbabilities(line.json())));
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
