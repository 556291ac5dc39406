package dev.halter.cli;

import picocli.CommandLine.Command;

@Command(
    name = "paper",
    subcommands = {
      DaviesCommand.class,
      PaceCommand.class,
      SacCommand.class,
      ArithmeticCommand.class,
    },
    description = {
      "Puts the claims of a paper to a model.",
      "Each is told with its protocol, what the paper says, what it leaves open and is chosen here,",
      "and what this model gives, with intervals of 95 %% where a figure is of many items."
    })
final class PaperCommand {}
