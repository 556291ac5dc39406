package dev.halter.cli;

import picocli.CommandLine.Option;

/** How often as many random heads are drawn as are tried. */
public final class RandomHeadsOptions {
  @Option(
      names = "--draws",
      paramLabel = "N",
      defaultValue = "3",
      description = "Draws of random heads (default: ${DEFAULT-VALUE}).")
  public int draws;

  @Option(
      names = "--seed",
      paramLabel = "N",
      defaultValue = "0",
      description = "Seed of the draws (default: ${DEFAULT-VALUE}).")
  public long seed;
}
