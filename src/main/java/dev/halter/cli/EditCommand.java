package dev.halter.cli;

import picocli.CommandLine.Command;

@Command(
    name = "edit",
    description = "Writes an edited copy of a model.",
    synopsisSubcommandLabel = "COMMAND",
    subcommands = EditTarsCommand.class)
final class EditCommand {}
