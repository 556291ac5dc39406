package dev.halter.cli.concepts;

import picocli.CommandLine.Command;

@Command(
    name = "vectors",
    description = "Makes control vectors: directions of a behaviour in the residual stream.",
    subcommands = {VectorsFitCommand.class, VectorsInfoCommand.class})
public final class VectorsCommand {}
