package dev.halter.cli;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.ScopeType;

/** The {@code halter} command: arguments and printing, nothing else. */
@Command(
    name = "halter",
    version = "halter 0.1.0",
    mixinStandardHelpOptions = true,
    scope = ScopeType.INHERIT,
    synopsisSubcommandLabel = "COMMAND",
    description = "Reads and steers Llama-family language models from the inside.",
    subcommands = {
      DemoCommand.class,
      InfoCommand.class,
      TokensCommand.class,
      GenerateCommand.class,
      BatchCommand.class,
      CaptureCommand.class,
      MapCommand.class,
      NeuronsCommand.class,
      AgreeCommand.class,
      DoseCommand.class,
      EditCommand.class,
      HeadsCommand.class,
      ConceptsCommand.class
    })
public final class Halter {
  @Option(
      names = "--debug",
      scope = ScopeType.INHERIT,
      description = "Show the stack trace of an error.")
  boolean debug;

  private Halter() {}

  /** Exits 0 when done, 1 when something failed, 2 for wrong use. */
  public static void main(String[] args) {
    StandardOutput out = new StandardOutput();
    System.setOut(out.printing());
    System.setErr(new PrintStream(System.err, true, StandardCharsets.UTF_8));
    int code = run(args);
    System.out.flush();
    if (out.failure() != null) {
      System.err.println(
          "halter: standard output cannot be written, what was printed is lost: "
              + out.failure().getMessage());
      code = code == 0 ? 1 : code;
    }
    System.exit(code);
  }

  /** Runs a command line and returns its exit code. */
  static int run(String... args) {
    Halter halter = new Halter();
    CommandLine line = new CommandLine(halter);
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
    try {
      return line.execute(args);
    } catch (OutOfMemoryError | StackOverflowError | LinkageError e) {
      return report(e, halter.debug);
    }
  }

  /** Prints an error as one line that says what, where and what to do; returns the exit code. */
  private static int report(Throwable error, boolean debug) {
    String message = error.getMessage();
    if (error instanceof OutOfMemoryError) {
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
