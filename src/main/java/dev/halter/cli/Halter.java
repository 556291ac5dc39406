package dev.halter.cli;

import dev.halter.cli.concepts.ConceptsCommand;
import dev.halter.cli.heads.HeadsCommand;
import dev.halter.cli.neurons.AgreeCommand;
import dev.halter.cli.neurons.DoseCommand;
import dev.halter.cli.neurons.EditCommand;
import dev.halter.cli.neurons.MapCommand;
import dev.halter.cli.neurons.NeuronsCommand;
import dev.halter.device.Devices;
import dev.halter.files.Destination;
import dev.halter.files.Reason;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.stream.Stream;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ScopeType;

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
          BatchCommand.class,
          CaptureCommand.class,
          TuneCommand.class,
          MapCommand.class,
          NeuronsCommand.class,
          AgreeCommand.class,
          DoseCommand.class,
          EditCommand.class,
          HeadsCommand.class,
          ConceptsCommand.class);

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

  /**
   * The command that is named, or all where that cannot be told: the model of all commands takes
   * longer to make than most of them to begin.
   */
  private static List<Class<?>> commands(String... args) {
    Optional<String> name =
        Stream.of(args).filter(argument -> !argument.startsWith("-")).findFirst();
    List<Class<?>> named =
        COMMANDS.stream()
            .filter(
                type -> name.filter(type.getAnnotation(Command.class).name()::equals).isPresent())
            .toList();
    return named.isEmpty() ? COMMANDS : named;
  }

  /** Runs a command line and returns its exit code. */
  static int run(String... args) {
    Halter halter = new Halter();
    CommandLine line = new CommandLine(halter);
    commands(args).forEach(line::addSubcommand);
    line.setUsageHelpWidth(100);
    line.setExecutionExceptionHandler((e, command, parsed) -> report(e, halter.debug));
    line.setParameterExceptionHandler(
        (e, arguments) -> {
          String command = e.getCommandLine().getCommandSpec().qualifiedName();
          String what = oneLine(e.getMessage()).replaceFirst("^Error: ", "");
          System.err.println("halter: " + what + " (" + command + " --help tells more)");
          return 2;
        });
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
  private static int report(Throwable error, boolean debug) {
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
