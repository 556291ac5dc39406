package dev.halter.cli.concepts;

import picocli.CommandLine.Command;

@Command(
    name = "concepts",
    description = "Concept dictionaries, and sparse codes of activations over them.",
    subcommands = {
      ConceptsBuildCommand.class,
      PartitionCommand.class,
      DecomposeCommand.class,
      DictionaryInfoCommand.class,
      ConceptsEvaluateCommand.class
    })
public final class ConceptsCommand {}
