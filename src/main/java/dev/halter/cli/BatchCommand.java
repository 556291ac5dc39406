package dev.halter.cli;

import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.RequestJson;
import dev.halter.generation.Result;
import dev.halter.generation.ResultJson;
import dev.halter.serving.OfflineApi;
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
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

@Command(
    name = "batch",
    description = {
      "Answers every line of a JSONL file, each steered by its own plan.",
      "A line: {\"id\", \"prompt\"|\"messages\"|\"tokens\", \"plan\"?, \"max_tokens\"?,",
      "\"min_tokens\"?, \"ignore_eos\"?, \"temperature\"?, \"top_p\"?, \"top_k\"?, \"min_p\"?, \"seed\"?,",
      "\"repetition_penalty\"?, \"presence_penalty\"?, \"frequency_penalty\"?, \"logit_bias\"?,",
      "\"allowed_token_ids\"?, \"logprobs\"?, \"prompt_logprobs\"?, \"logprob_token_ids\"?}; \"plan\" is a",
      "file or a plan, and what a line leaves out is as the options say.",
      "A line without a seed draws by its own stream, which --seed and its id decide.",
      "Or OpenAI's lines: {\"custom_id\", \"method\", \"url\", \"body\"}, whose bodies and answers are",
      "those of halter serve."
    })
final class BatchCommand implements Callable<Integer> {
  @Spec CommandSpec spec;
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
      names = "--plans",
      paramLabel = "DIR",
      description =
          "Of OpenAI's lines: folder of plans that bodies may name, and of their vectors, as of"
              + " halter serve.")
  Path folder;

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
            InputLine.Reader.ofBatch(in, shards.shard(), RequestJson.KEYS.toArray(String[]::new));
        ResultFile results = results(lines.form());
        LanguageModel model = options.open(maxBatch);
        ProgressBar bar = new ProgressBar("batch", lines.size())) {
      BatchLedger ledger = new BatchLedger(in, results, bar);
      SteeringPlan first = SteeringPlan.readAll(plans, model.config());
      if (lines.form() == InputLine.Form.OPENAI) {
        answerOpenAi(model, first, lines, ledger);
      } else {
        if (model.hasTokenizer()) {
          model.tokenizer(); // a broken one is an error of the folder, not of each line
        }
        Run run = new Run(model, first, lines, ledger);
        model.engine().run(run, run::finish);
      }
      ledger.report(out, output);
      return ledger.failed() > 0 ? 1 : 0;
    }
  }

  /** Opens the results, once it is known that the options suit the lines. */
  private ResultFile results(InputLine.Form form) {
    requireOptionsOf(form);
    return new ResultFile(out, resume);
  }

  /** Bodies say themselves what options say of other lines. */
  private void requireOptionsOf(InputLine.Form form) {
    List<OptionSpec> idle = new ArrayList<>();
    if (form == InputLine.Form.OWN) {
      idle.add(spec.findOption("--plans"));
    } else {
      idle.add(spec.findOption("--max-tokens"));
      for (String mixin : List.of("sampling", "ending", "logprobs")) {
        idle.addAll(spec.mixins().get(mixin).options());
      }
      idle.removeIf(option -> option.longestName().equals("--seed"));
    }
    for (OptionSpec option : idle) {
      if (spec.commandLine().getParseResult().hasMatchedOption(option)) {
        throw new WrongUseException(
            "%s says nothing of %s lines, which %s are: leave it out"
                .formatted(
                    option.longestName(),
                    form == InputLine.Form.OWN ? "Halter's own" : "OpenAI's",
                    in));
      }
    }
  }

  private void answerOpenAi(
      LanguageModel model, SteeringPlan first, InputLine.Reader lines, BatchLedger ledger) {
    try (OfflineApi api =
        OfflineApi.open(
            model, first, folder, message -> System.err.println("halter: " + message))) {
      int atOnce = 4 * model.llama().limits().sequences();
      new OpenAiLines(api, ledger, sampling.seed, atOnce).run(lines);
    }
  }

  /** Input lines as requests; lines that cannot be requests are answered with their error. */
  private final class Run implements Iterator<Request> {
    private final LanguageModel model;
    private final InputLine.Reader lines;
    private final BatchLedger ledger;
    private final PlanCache cache;
    private final IdentityHashMap<Request, InputLine> running = new IdentityHashMap<>();
    private Request next;

    Run(LanguageModel model, SteeringPlan first, InputLine.Reader lines, BatchLedger ledger) {
      this.model = model;
      this.lines = lines;
      this.ledger = ledger;
      this.cache = new PlanCache(model.config(), in.toAbsolutePath().getParent(), first);
    }

    @Override
    public boolean hasNext() {
      while (next == null && lines.hasNext()) {
        InputLine line = lines.next();
        if (line.error() != null) {
          fail(line, line.error());
        } else if (!ledger.skips(line)) {
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
      ledger.answered(document);
    }

    private void fail(InputLine line, String problem) {
      ledger.failed(
          line,
          problem,
          Json.object("id", line.id(), "line", line.number(), "error", line.failure(problem)));
    }
  }
}
