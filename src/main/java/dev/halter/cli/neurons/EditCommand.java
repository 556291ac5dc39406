package dev.halter.cli.neurons;

import picocli.CommandLine.Command;

@Command(
    name = "edit",
    description = "Writes an edited copy of a model.",
    synopsisSubcommandLabel = "COMMAND",
    subcommands = EditTarsCommand.class)
public final class EditCommand {}
