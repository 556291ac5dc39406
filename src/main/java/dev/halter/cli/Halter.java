package dev.halter.cli;

import dev.halter.cli.concepts.ConceptsCommand;
import dev.halter.cli.concepts.VectorsCommand;
import dev.halter.cli.heads.HeadsCommand;
import dev.halter.cli.neurons.AgreeCommand;
import dev.halter.cli.neurons.DoseCommand;
import dev.halter.cli.neurons.EditCommand;
import dev.halter.cli.neurons.MapCommand;
import dev.halter.cli.neurons.NeuronsCommand;
import dev.halter.device.Devices;
import dev.halter.files.Destination;
import dev.halter.files.Reason;
import dev.halter.text.Spelling;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.lang.reflect.Field;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Stream;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Help;
import picocli.CommandLine.IHelpSectionRenderer;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.Model.UsageMessageSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ScopeType;
import picocli.CommandLine.UnmatchedArgumentException;

/** The {@code halter} command: arguments and printing, nothing else. */
@Command(
    name = "halter",
    version = "halter 0.1.0",
    mixinStandardHelpOptions = true,
    scope = ScopeType.INHERIT,
    synopsisSubcommandLabel = "COMMAND",
    description = "Reads and steers Llama-family language models from the inside.")
public final class Halter {
  private static final List<Class<?>> COMMANDS =
      List.of(
          DemoCommand.class,
          InfoCommand.class,
          TokensCommand.class,
          GenerateCommand.class,
          ChatCommand.class,
          CompareCommand.class,
          BatchCommand.class,
          SparkBatchCommand.class,
          ServeCommand.class,
          EvaluationCommand.class,
          CaptureCommand.class,
          MergeCommand.class,
          TableCommand.class,
          TuneCommand.class,
          MapCommand.class,
          NeuronsCommand.class,
          AgreeCommand.class,
          DoseCommand.class,
          EditCommand.class,
          HeadsCommand.class,
          ConceptsCommand.class,
          VectorsCommand.class,
          CompletionCommand.class,
          HelpCommand.class);

  private static final int HELP_WIDTH = 100;

  /** Names of the commands, for shells to complete. */
  static final class Names implements Iterable<String> {
    @Override
    public Iterator<String> iterator() {
      return COMMANDS.stream().map(Halter::name).iterator();
    }
  }

  /** The options of all commands that name a file to write. */
  private static final List<String> OUTPUTS = List.of("--out", "--export", "--html");

  @Option(
      names = "--debug",
      scope = ScopeType.INHERIT,
      description = "Show the stack trace of an error.")
  boolean debug;

  @Option(
      names = "--profile",
      scope = ScopeType.INHERIT,
      description = "Show what ran on the device, kernel by kernel, when the command ends.")
  boolean profile;

  private Halter() {}

  /** Exits 0 when done, 1 when something failed, 2 for wrong use. */
  public static void main(String[] args) {
    // Digits, commas and titles are the same for every user: other programs read them.
    Locale.setDefault(Locale.ROOT);
    // parquet-java asks for a logger, and SLF4J would say that there is none.
    System.setProperty("slf4j.internal.verbosity", "ERROR");
    StandardOutput out = new StandardOutput();
    System.setOut(out.printing());
    System.setErr(new PrintStream(System.err, true, StandardCharsets.UTF_8));
    int code = readAsUtf8(args) ? run(args) : 2;
    System.out.flush();
    if (out.failure() != null) {
      System.err.println(
          "halter: standard output cannot be written, what was printed is lost: "
              + Reason.of(out.failure()));
      code = code == 0 ? 1 : code;
    }
    System.exit(code);
  }

  /**
   * Whether no argument lost letters before it came here, which Java replaces in silence: where the
   * locale is not UTF-8, or an argument is not.
   */
  private static boolean readAsUtf8(String... args) {
    String encoding = System.getProperty("sun.jnu.encoding");
    for (int i = 0; i < args.length; i++) {
      if (args[i].indexOf('\uFFFD') >= 0 && (!encoding.equals("UTF-8") || !cameAsUtf8())) {
        System.err.printf(
            encoding.equals("UTF-8")
                ? "halter: argument %d is not UTF-8: write it in UTF-8%n"
                : "halter: argument %d is not read as UTF-8: start Java with LC_ALL=C.UTF-8%n",
            i + 1);
        return false;
      }
    }
    return true;
  }

  private static boolean cameAsUtf8() {
    try {
      byte[] line = Files.readAllBytes(Path.of("/proc/self/cmdline"));
      StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(line));
      return true;
    } catch (CharacterCodingException e) {
      return false;
    } catch (IOException e) {
      return true; // cannot be told
    }
  }

  private static String name(Class<?> command) {
    return command.getAnnotation(Command.class).name();
  }

  /**
   * The model of the command that arguments begin with, beside names and summaries of the others:
   * to make the models of all takes longer than most commands take to begin.
   */
  static CommandLine commandLine(String... args) {
    Optional<String> name =
        Stream.of(args).filter(argument -> !argument.startsWith("-")).findFirst();
    CommandLine line = new CommandLine(new Halter());
    for (Class<?> command : COMMANDS) {
      line.addSubcommand(
          name.filter(name(command)::equals).isPresent() ? command : summary(command));
    }
    return arranged(line);
  }

  private static CommandSpec summary(Class<?> command) {
    CommandSpec summary = CommandSpec.create().name(name(command));
    summary.usageMessage().description(command.getAnnotation(Command.class).description());
    return summary;
  }

  /** The models of all commands. */
  static CommandLine ofAllCommands() {
    CommandLine line = new CommandLine(new Halter());
    COMMANDS.forEach(line::addSubcommand);
    return arranged(line);
  }

  private static CommandLine arranged(CommandLine line) {
    line.setUsageHelpWidth(HELP_WIDTH);
    Map<String, IHelpSectionRenderer> sections = new HashMap<>(line.getHelpSectionMap());
    sections.put(UsageMessageSpec.SECTION_KEY_OPTION_LIST, Halter::optionList);
    line.setHelpSectionMap(sections);
    return line;
  }

  /** A command's own options, then under headings those of the model and those of all commands. */
  private static String optionList(Help help) {
    List<OptionSpec> own = new ArrayList<>();
    List<OptionSpec> machine = new ArrayList<>();
    List<OptionSpec> everywhere = new ArrayList<>();
    for (OptionSpec option : help.commandSpec().options()) {
      boolean isMachine = isOf(ModelOptions.class, option) || isOf(SparkModelOptions.class, option);
      boolean isEverywhere =
          isOf(Halter.class, option) || option.usageHelp() || option.versionHelp();
      (isMachine ? machine : isEverywhere ? everywhere : own).add(option);
    }
    if (own.isEmpty() && machine.isEmpty()) {
      return help.optionListExcludingGroups(everywhere);
    }
    return optionList(help, "", own)
        + optionList(help, "\nModel and machine:\n", machine)
        + optionList(help, "\nOf every command:\n", everywhere);
  }

  static boolean isOf(Class<?> owner, OptionSpec option) {
    return option.userObject() instanceof Field field && field.getDeclaringClass() == owner;
  }

  private static String optionList(Help help, String heading, List<OptionSpec> options) {
    return options.isEmpty() ? "" : heading + help.optionListExcludingGroups(options);
  }

  /** Prints wrong use as one line, and what was likely meant; returns the exit code. */
  private static int report(ParameterException e) {
    CommandSpec command = e.getCommandLine().getCommandSpec();
    String what = oneLine(e.getMessage()).replaceFirst("^Error: ", "");
    if (e instanceof UnmatchedArgumentException unmatched) {
      String word = unmatched.getUnmatched().getFirst().replaceFirst("=.*", "");
      boolean option = unmatched.isUnknownOption();
      if (option || !command.subcommands().isEmpty()) {
        Set<String> known = option ? command.optionsMap().keySet() : command.subcommands().keySet();
        what =
            command.qualifiedName()
                + (option ? " has no option '" : " has no command '")
                + word
                + "'"
                + Spelling.meant(word, known)
                    .map(name -> "; did you mean " + name + "?")
                    .orElse("");
      }
    }
    System.err.println("halter: " + what + " (" + command.qualifiedName() + " --help tells more)");
    return 2;
  }

  /** Runs a command line and returns its exit code. */
  static int run(String... args) {
    CommandLine line = commandLine(args);
    Halter halter = line.getCommand();
    line.setExecutionExceptionHandler((e, command, parsed) -> report(e, halter.debug));
    line.setParameterExceptionHandler((e, arguments) -> report(e));
    if (args.length == 0) {
      line.usage(System.err);
      return 2;
    }
    line.setExecutionStrategy(
        parsed -> {
          try {
            checkOutputs(parsed);
          } catch (UncheckedIOException | WrongUseException e) {
            return report(e, halter.debug);
          }
          return halter.profile ? profiled(parsed) : new CommandLine.RunLast().execute(parsed);
        });
    try {
      return line.execute(args);
    } catch (OutOfMemoryError | StackOverflowError | LinkageError e) {
      return report(e, halter.debug);
    }
  }

  /** Runs a command with every device that it opens watched. */
  private static int profiled(CommandLine.ParseResult parsed) {
    String before = System.setProperty(Devices.PROFILE, "true");
    try {
      return new CommandLine.RunLast().execute(parsed);
    } finally {
      if (before == null) {
        System.clearProperty(Devices.PROFILE);
      } else {
        System.setProperty(Devices.PROFILE, before);
      }
    }
  }

  /** Work whose result has no place is not begun. */
  private static void checkOutputs(CommandLine.ParseResult parsed) {
    while (parsed.hasSubcommand()) {
      parsed = parsed.subcommand();
    }
    for (String option : OUTPUTS) {
      if (parsed.matchedOptionValue(option, null) instanceof Path file
          && !parsed.matchedOption(option).paramLabel().equals("DIR")) {
        checkInputs(parsed, option, file);
        Destination.check(file);
        if (Destination.isStandardOutput(file)) {
          System.setOut(System.err); // the words about it are no part of it
        }
      }
    }
  }

  /** A result that is also what it is made of would end as neither. */
  private static void checkInputs(CommandLine.ParseResult parsed, String output, Path file) {
    for (OptionSpec input : parsed.matchedOptions()) {
      boolean same =
          input.getValue() instanceof Path other
              && !input.longestName().equals(output)
              && Destination.isSame(other, file);
      if (same) {
        throw new WrongUseException(
            input.longestName() + " and " + output + " are the same file, " + file);
      }
    }
  }

  /** Prints an error as one line that says what, where and what to do; returns the exit code. */
  static int report(Throwable error, boolean debug) {
    if (error instanceof UncheckedIOException && error.getMessage().equals(error.getCause() + "")) {
      error = error.getCause(); // a wrapper that says nothing of its own
    }
    String message = error.getMessage();
    if (error instanceof FileSystemException file) {
      message = file.getFile() + ": " + Reason.of(file);
    } else if (error instanceof OutOfMemoryError) {
      message = "out of Java memory: set JAVA_OPTS=-Xmx8g or more";
    } else if (message == null || message.isBlank()) {
      message = error.toString();
    }
    System.err.println("halter: " + oneLine(message));
    if (debug) {
      error.printStackTrace();
    }
    return error instanceof WrongUseException ? 2 : 1;
  }

  private static String oneLine(String message) {
    return message.strip().replaceAll("\\s*\\R\\s*", " ");
  }
}
