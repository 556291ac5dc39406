package dev.halter.cli;

import picocli.CommandLine.Option;

/** How executors of Spark open a model. */
public final class SparkModelOptions {
  @Option(
      names = "--model",
      paramLabel = "DIR",
      required = true,
      description = "Model folder, as every executor sees it.")
  public String model;

  @Option(
      names = "--device",
      paramLabel = "D",
      defaultValue = "auto",
      description = "auto (the task's GPU, or the CPU), cpu or cuda (default: ${DEFAULT-VALUE}).")
  public String device;

  @Option(
      names = "--dtype",
      paramLabel = "T",
      defaultValue = "auto",
      description = "Type of the activations: auto, f32 or bf16 (default: ${DEFAULT-VALUE}).")
  public String dtype;

  @Option(
      names = "--threads",
      paramLabel = "N",
      defaultValue = "0",
      description = "CPU threads (default: one for each core of the executor).")
  public int threads;

  @Option(
      names = "--context",
      paramLabel = "N",
      defaultValue = "0",
      description = "Longest prompt and answer together (default: the model's, to 8192).")
  public int context;
}
