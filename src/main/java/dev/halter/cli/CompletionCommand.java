package dev.halter.cli;

import java.util.concurrent.Callable;
import picocli.AutoComplete;
import picocli.CommandLine.Command;
import picocli.CommandLine.Parameters;

@Command(
    name = "completion",
    description = {
      "Prints a script that lets a shell complete commands, options and file names.",
      "Once, for this shell: source <(halter completion bash)",
      "For good: add that line to ~/.bashrc, or in zsh the one with zsh to ~/.zshrc."
    })
final class CompletionCommand implements Callable<Integer> {
  @Parameters(paramLabel = "SHELL", description = "bash or zsh.")
  String shell;

  @Override
  public Integer call() {
    OptionValue.requireOneOf("SHELL", shell, "bash", "zsh");
    // One script serves both: in zsh it loads bashcompinit.
    System.out.print(AutoComplete.bash("halter", Halter.ofAllCommands()));
    return 0;
  }
}
