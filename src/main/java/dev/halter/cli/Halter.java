package dev.halter.cli;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
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
    int code = readAsUtf8(args) ? run(args) : 2;
    System.out.flush();
    if (out.failure() != null) {
      System.err.println(
          "halter: standard output cannot be written, what was printed is lost: "
              + out.failure().getMessage());
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
