package dev.halter.cli;

import dev.halter.cli.neurons.NeuronOptions;
import dev.halter.generation.Answer;
import dev.halter.generation.Conversation;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Result;
import dev.halter.generation.Sampling;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.steering.ActivePlans;
import dev.halter.steering.SteeringPlan;
import dev.halter.text.Spelling;
import java.io.UncheckedIOException;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.function.Consumer;

/**
 * What the lines of a chat do: questions are answered on standard output, lines that begin with /
 * are commands. A line that cannot be done costs itself alone: its error is one line on standard
 * error.
 */
final class ChatSession {

  /**
   * A command.
   *
   * @param usage what follows its name, for people
   * @param work takes what follows the name, without the space around it
   */
  private record Command(String name, String usage, String summary, Consumer<String> work) {

    /** One that takes nothing after its name. */
    static Command alone(String name, String summary, Runnable work) {
      return new Command(
          name,
          "",
          summary,
          rest -> {
            if (!rest.isEmpty()) {
              throw new WrongUseException(name + " takes nothing after it, not '" + rest + "'");
            }
            work.run();
          });
    }
  }

  private static final String NO_PLAN = "no plan is loaded";

  private final LanguageModel model;
  private final Sampling sampling;
  private final Conversation conversation;
  private final ActivePlans plans = new ActivePlans();
  private int leftOut;
  private boolean ended;

  private final List<Command> commands =
      List.of(
          new Command(
              "/plan",
              "[F]",
              "Adds a plan file, or reads it again; alone, lists plans.",
              this::plan),
          new Command(
              "/neuron",
              "L.N X [SITE]",
              "Clamps a neuron to X, at hook_pre_linear or SITE.",
              this::neuron),
          new Command(
              "/scale",
              "[NAME] X",
              "Makes X times the change of a plan, or of all: 0 none, 1 its own.",
              this::scale),
          new Command("/off", "[NAME]", "Switches a plan off, or all.", name -> turn(name, false)),
          new Command(
              "/on", "[NAME]", "Switches a plan on again, or all.", name -> turn(name, true)),
          new Command("/drop", "NAME", "Takes a plan away.", this::drop),
          Command.alone(
              "/compare",
              "Answers the last question again, with the plans and without.",
              this::compare),
          Command.alone("/report", "Shows what the plans did to the last answer.", this::report),
          Command.alone("/undo", "Takes the last question and its answer back.", this::undo),
          Command.alone("/clear", "Takes all questions and answers back; plans stay.", this::clear),
          new Command(
              "/system", "[T]", "Sets the system message; alone, takes it away.", this::system),
          Command.alone(
              "/help",
              "Shows this list. A question that begins with / is written with //.",
              this::help),
          Command.alone("/quit", "Ends the chat, as Ctrl-D does.", this::quit));

  ChatSession(LanguageModel model, Sampling sampling, int maxTokens) {
    this.model = model;
    this.sampling = sampling;
    this.conversation = new Conversation(model, maxTokens);
  }

  /** What a terminal shows before a line: the plans, as they are set. */
  String prompt() {
    return plans + "> ";
  }

  /** Does a line; false if it ends the chat. */
  boolean hear(String line) {
    String said = line.strip();
    try {
      if (said.startsWith("//")) {
        ask(said.substring(1));
      } else if (said.startsWith("/")) {
        command(said);
      } else if (!said.isEmpty()) {
        ask(said);
      }
    } catch (IllegalArgumentException | UncheckedIOException e) {
      Halter.report(e, false);
    }
    return !ended;
  }

  private void command(String line) {
    String name = line.split("\\s", 2)[0];
    List<String> names = commands.stream().map(Command::name).toList();
    if (!names.contains(name)) {
      throw new WrongUseException(
          "no command "
              + name
              + Spelling.meant(name, names).map(meant -> "; did you mean " + meant + "?").orElse("")
              + " (/help lists them)");
    }
    commands.get(names.indexOf(name)).work.accept(line.substring(name.length()).strip());
  }

  private void ask(String question) {
    Conversation.Prompt prompt = conversation.prompt(question);
    if (prompt.leftOut() > leftOut) {
      System.err.printf(
          "halter: the conversation is longer than the %,d tokens of the context: its first %s left"
              + " out from here on%n",
          model.engine().maxTokens(),
          prompt.leftOut() == 1
              ? "question and answer are"
              : prompt.leftOut() + " questions and answers are");
    }
    leftOut = prompt.leftOut();
    StreamedAnswer print = new StreamedAnswer(model);
    Answer answer;
    try {
      answer = conversation.answer(prompt, plans.plan(), draws(conversation.turns()), print);
    } finally {
      print.end();
    }
    if (answer.result().finish() == Result.Finish.LENGTH) {
      System.err.printf(
          "halter: the answer is cut off after %,d tokens%n", answer.result().tokens().length);
    }
  }

  /** Each turn draws by a stream of its own, so that a question asked again gets another answer. */
  private Sampling draws(int turn) {
    return sampling.forId(Integer.toString(turn));
  }

  private void plan(String file) {
    if (file.isEmpty()) {
      list();
    } else {
      load(path(file));
      sayPlans();
    }
  }

  private void sayPlans() {
    System.err.println(plans.names().isEmpty() ? NO_PLAN : "plans: " + plans);
  }

  private static Path path(String name) {
    String home = System.getProperty("user.home");
    try {
      return Path.of(name.startsWith("~/") ? home + name.substring(1) : name);
    } catch (InvalidPathException e) {
      throw new IllegalArgumentException("no file can be named " + name, e);
    }
  }

  /** Adds the plan of a file. */
  void load(Path file) {
    SteeringPlan plan = PlanFile.read(file, model.config());
    model.engine().check(plan);
    plans.put(plan.name(), plan);
  }

  private void list() {
    System.out.println(plans.names().isEmpty() ? NO_PLAN : plans.toString());
    for (SteeringPlan.Intervention each : plans.plan().interventions()) {
      System.out.println("  " + each.op() + " at " + each.edit().site());
    }
  }

  private void neuron(String arguments) {
    String[] words = arguments.split("\\s+");
    if (words.length < 2 || words.length > 3) {
      throw new WrongUseException("write /neuron L.N X, such as /neuron 1.270 30");
    }
    double value = number("/neuron", words[1]);
    Site site =
        NeuronOptions.parse(words[0])
            .site(words.length == 3 ? words[2] : "hook_pre_linear", model.config());
    String name = words[0] + (words.length == 3 ? " " + words[2] : "");
    Edit clamp = Edit.clamp(site, NeuronOptions.parse(words[0]).neuron(), value);
    plans.put(name, SteeringPlan.of(clamp).named(name + "=" + words[1]));
    sayPlans();
  }

  private void scale(String arguments) {
    String[] words = arguments.split("\\s+");
    String name = String.join(" ", Arrays.copyOf(words, words.length - 1));
    double strength = number("/scale", words[words.length - 1]);
    named(name).forEach(each -> plans.scale(each, strength));
    sayPlans();
  }

  private static double number(String command, String word) {
    try {
      double number = Double.parseDouble(word);
      if (Double.isFinite((float) number)) {
        return number;
      }
    } catch (NumberFormatException e) {
      // said below
    }
    throw new WrongUseException(command + " takes a number, not '" + word + "'");
  }

  private void turn(String name, boolean on) {
    named(name).forEach(each -> plans.turn(each, on));
    sayPlans();
  }

  private void drop(String name) {
    plans.remove(name);
    sayPlans();
  }

  /** The plan of a name; without one, all. */
  private List<String> named(String name) {
    if (plans.names().isEmpty()) {
      throw new IllegalArgumentException(NO_PLAN + ": /plan F loads one");
    }
    return name.isEmpty() ? plans.names() : List.of(name);
  }

  private void compare() {
    SteeringPlan plan = plans.plan();
    if (plan.interventions().isEmpty()) {
      throw new IllegalArgumentException(
          "no plan is on, so there is nothing to compare: /plan F loads one, /on switches it on");
    }
    List<Answer> both =
        conversation.again(List.of(SteeringPlan.NONE, plan), draws(conversation.turns() - 1));
    System.out.println("without: " + both.getFirst().text().strip());
    boolean same =
        Arrays.equals(both.getFirst().result().tokens(), both.getLast().result().tokens());
    System.out.println(
        plan.name() + ": " + (same ? "the same answer" : both.getLast().text().strip()));
  }

  private void report() {
    List<String> lines = ReportLines.of(conversation.lastAnswer().report());
    (lines.isEmpty() ? List.of("the last answer was not steered") : lines)
        .forEach(System.out::println);
  }

  private void undo() {
    System.err.println("taken back: " + conversation.undo());
  }

  private void clear() {
    conversation.clear();
    leftOut = 0;
  }

  private void system(String text) {
    setSystem(text.isEmpty() ? null : text);
  }

  /** Sets what stands before the conversation, or nothing for null. */
  void setSystem(String text) {
    conversation.setSystem(text);
  }

  private void help() {
    for (Command command : commands) {
      System.out.printf("%-22s %s%n", command.name + " " + command.usage, command.summary);
    }
  }

  private void quit() {
    ended = true;
  }
}
