package dev.halter.cli.concepts;

import picocli.CommandLine.Command;

@Command(
    name = "concepts",
    description = "Makes concept dictionaries, and codes activations sparsely over them.",
    subcommands = {
      ConceptsBuildCommand.class,
      PartitionCommand.class,
      DecomposeCommand.class,
      DictionaryInfoCommand.class,
      ConceptsEvaluateCommand.class
    })
public final class ConceptsCommand {}
