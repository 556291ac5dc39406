package dev.halter.cli;

import dev.halter.concepts.LocalChat;
import dev.halter.evaluation.FinishedItems;
import dev.halter.evaluation.Judge;
import dev.halter.evaluation.PlanEvaluation;
import dev.halter.evaluation.PlanEvaluation.Report;
import dev.halter.evaluation.PlanEvaluation.Tried;
import dev.halter.evaluation.Task;
import dev.halter.evaluation.TaskFile;
import dev.halter.files.Destination;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.pictures.Page;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Chat;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "evaluate",
    synopsisSubcommandLabel = "[COMMAND]",
    subcommands = PaperCommand.class,
    description = {
      "Measures what plans do at several doses, and what that costs.",
      "Behaviour, capability, fluency and distance of every plan at every dose stand beside no plan,",
      "the model being told instead, and random plans of the same size, with bootstrap intervals of",
      "95 %%. Of several doses one is chosen on one half of the items; figures are of the other half.",
      "Tasks are Halter's own JSONL or files of MMLU, XSTest, TrustLLM, GSM8K, SafeEdit, SST-2 and",
      "CounterFact as they come."
    })
final class EvaluationCommand implements Callable<Integer> {
  private static final int JUDGE_TOKENS = 256;
  private static final int LONGEST_SAYING = 60;

  @Mixin ModelOptions options;

  @Option(
      names = "--task",
      paramLabel = "F",
      split = ",",
      description = "Files of tasks, by their shape; needed unless a paper is put to the model.")
  List<Path> tasks = new ArrayList<>();

  @Option(
      names = "--plan",
      paramLabel = "F",
      split = ",",
      description = "Steering plans, each tried by itself; none to measure the model as it is.")
  List<Path> plans = new ArrayList<>();

  @Option(
      names = "--doses",
      paramLabel = "X",
      split = ",",
      defaultValue = "1",
      description = "Strengths at which plans are tried (default: ${DEFAULT-VALUE}).")
  List<Double> doses;

  @Option(
      names = "--draws",
      paramLabel = "N",
      defaultValue = "3",
      description =
          "Random plans of the same size for each plan; 0 for none (default: ${DEFAULT-VALUE}).")
  int draws;

  @Option(
      names = "--seed",
      paramLabel = "N",
      defaultValue = "0",
      description = "Seed of draws and intervals (default: ${DEFAULT-VALUE}).")
  long seed;

  @Option(
      names = "--refusal",
      paramLabel = "R",
      description =
          "Pattern that answers which refuse contain, for benchmarks that count them (default:"
              + " XSTest's).")
  String refusal;

  @Option(
      names = "--judge",
      paramLabel = "DIR",
      description = "Model folder that judges answers, for tasks that ask for a judge.")
  Path judge;

  @Mixin EndpointOptions endpoint;

  @Option(
      names = "--judge-answers",
      paramLabel = "F",
      description =
          "Keeps what the judge says, by what it was asked, and asks no more than is missing"
              + " (default: --out with .judge.jsonl).")
  Path judgeAnswers;

  @Option(
      names = "--out",
      paramLabel = "F",
      description =
          "JSONL to write: what is tried, a line for each answer as soon as its item is finished,"
              + " one for each row.")
  Path out;

  @Option(
      names = "--resume",
      description =
          "Do only the items that --out has not all answers of; those that its judge gave no rating"
              + " are tried again.")
  boolean resume;

  @Option(
      names = "--html",
      paramLabel = "F",
      description = "Page to write, with behaviour against capability: one file, works offline.")
  Path html;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    check();
    Pattern refused = refusal();
    List<Task> read = new ArrayList<>();
    tasks.forEach(file -> read.addAll(TaskFile.read(file, refused)));
    if (read.stream().map(Task::name).distinct().count() < read.size()) {
      throw new WrongUseException(
          "two tasks have one name: "
              + read.stream().map(Task::name).collect(Collectors.joining(", ")));
    }
    // A judge beside it needs room too: sequences are shorter then.
    try (ResumableFile lines = lines();
        LanguageModel model = judge == null ? options.open() : options.openForPairs();
        Judge rates = judge()) {
      List<SteeringPlan> steering = PlanFile.readApart(plans, model.config());
      Tried tried = new Tried(read, steering, doses, draws, seed);
      EvaluationJson json = new EvaluationJson(tried, model, rates);
      Consumer<String> progress = step -> System.err.println("evaluate: " + step);
      Report report;
      if (lines == null) {
        report = PlanEvaluation.of(model, tried, rates, FinishedItems.NONE, progress);
      } else {
        EvaluationFile file = new EvaluationFile(lines, json);
        report = PlanEvaluation.of(model, tried, rates, file, progress);
        file.end(report.rows());
      }
      if (rates != null) {
        warn(rates.outcome());
      }
      Map<String, Object> document = json.document(report);
      if (html != null) {
        Page.write(html, "evaluation", file -> file.write(Json.text(document)));
      }
      if (output.isJson()) {
        output.print(document);
      } else {
        new EvaluationTable(report).print();
      }
      return 0;
    }
  }

  /** Where answers are kept; null if nowhere. */
  private ResumableFile lines() {
    return out == null
        ? null
        : new ResumableFile(out, "halter evaluate", EvaluationFile.START, resume);
  }

  private void check() {
    if (tasks.isEmpty()) {
      throw new WrongUseException(
          "name what to measure: --task F, or halter evaluate paper with one of the papers");
    }
    if (draws < 0) {
      throw new WrongUseException("--draws is " + draws + ", must be 0 or more");
    }
    if (!doses.stream().allMatch(Double::isFinite)
        || doses.stream().distinct().count() < doses.size()) {
      throw new WrongUseException("--doses takes finite numbers, each once");
    }
    if (resume && out == null) {
      throw new WrongUseException("--resume goes on with the file of --out: name it");
    }
    if (judge != null && endpoint.isGiven()) {
      throw new WrongUseException("--judge and --endpoint exclude each other");
    }
    if (!endpoint.isGiven()) {
      endpoint.refuseDetails();
    }
  }

  private Pattern refusal() {
    try {
      return refusal == null ? TaskFile.REFUSAL : Pattern.compile(refusal);
    } catch (PatternSyntaxException e) {
      throw new WrongUseException("--refusal is no regular expression: " + e.getDescription());
    }
  }

  /** Says what a judge did not rate, which no figure is of. */
  private static void warn(Judge.Outcome outcome) {
    if (outcome.refused() > 0) {
      System.err.printf(
          "halter: the judge has no answer to %,d of %,d questions (%s): run again to ask them anew%n",
          outcome.refused(), outcome.questions(), outcome.refusal());
    }
    if (outcome.unread() > 0) {
      String said = outcome.example().strip().replaceAll("\\s+", " ");
      System.err.printf(
          "halter: %,d of %,d answers of the judge hold no rating from 0 to 2, such as \"%s\": what"
              + " they are about is not counted%n",
          outcome.unread(),
          outcome.questions() - outcome.refused(),
          said.length() > LONGEST_SAYING ? said.substring(0, LONGEST_SAYING - 1) + "…" : said);
    }
  }

  /** Who rates answers; null if nobody is named. */
  private Judge judge() {
    if (judge == null && !endpoint.isGiven()) {
      return null;
    }
    Path answers = judgeAnswers;
    if (answers == null) {
      if (out == null || Destination.isStandardOutput(out)) {
        throw new WrongUseException("name a file for what the judge says: --judge-answers F");
      }
      answers = out.resolveSibling(out.getFileName() + ".judge.jsonl");
    }
    Chat chat =
        endpoint.isGiven()
            ? endpoint.open(JUDGE_TOKENS)
            : new LocalChat(options.openForPairs(judge), JUDGE_TOKENS);
    try {
      return new Judge(chat, answers);
    } catch (RuntimeException e) {
      chat.close();
      throw e;
    }
  }
}
