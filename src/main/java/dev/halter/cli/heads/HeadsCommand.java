package dev.halter.cli.heads;

import picocli.CommandLine.Command;

@Command(
    name = "heads",
    description = "Finds the heads that a task runs through, and what moving them does.",
    subcommands = {
      PairsCommand.class,
      PatchCommand.class,
      GridCommand.class,
      KnockoutCommand.class,
      AttentionCommand.class,
      PictureCommand.class,
      FitCommand.class,
      CombineCommand.class,
      EvaluateCommand.class
    })
public final class HeadsCommand {}
