package dev.halter.cli;

import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.UnmatchedArgumentException;

@Command(
    name = "help",
    description = "Shows the help of a command, such as halter help heads patch.")
final class HelpCommand implements Callable<Integer> {
  @Parameters(
      paramLabel = "COMMAND",
      completionCandidates = Halter.Names.class,
      description = "Command, and a command of it (default: all commands, one a line).")
  List<String> path = List.of();

  @Override
  public Integer call() {
    CommandLine command = Halter.commandLine(path.toArray(String[]::new));
    for (String word : path) {
      CommandLine next = command.getSubcommands().get(word);
      if (next == null) {
        throw new UnmatchedArgumentException(command, List.of(word));
      }
      command = next;
    }
    command.usage(System.out);
    return 0;
  }
}
