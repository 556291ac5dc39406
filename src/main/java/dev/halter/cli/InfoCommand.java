package dev.halter.cli;

import dev.halter.device.Devices;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.model.MemoryPlan;
import dev.halter.weights.ModelConfig;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "info",
    description = "Shows the model, the device, what memory they take, and which backends load.")
final class InfoCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(
      names = "--max-batch",
      paramLabel = "N",
      defaultValue = "0",
      description = "Plan memory for N sequences at once (default: as suits the device).")
  int maxBatch;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    String cuda = backend(Devices.tryCuda());
    String cpu = backend(Devices.tryCpu(options.threads, !options.anyBatch));
    try (LanguageModel model = options.open(maxBatch)) {
      ModelConfig config = model.config();
      MemoryPlan plan = model.plan();
      String family = config.family().name().toLowerCase(Locale.ROOT);
      if (output.isJson()) {
        output.print(
            Json.object(
                "model", model.folder().toString(),
                "family", family,
                "layers", config.nLayers(),
                "d_model", config.dModel(),
                "n_heads", config.nHeads(),
                "n_kv_heads", config.nKvHeads(),
                "d_head", config.dHead(),
                "d_mlp", config.dMlp(),
                "vocabulary", config.vocabularySize(),
                "max_positions", config.maxPositions(),
                "device", model.device().description(),
                "device_details", model.device().details(),
                "dtype", model.llama().type().name().toLowerCase(Locale.ROOT),
                "memory",
                    Json.object(
                        "weights", plan.weights(),
                        "kv_cache", plan.cache(),
                        "scratch", plan.scratch(),
                        "java", plan.java(),
                        "total", plan.total(),
                        "free", plan.free()),
                "cuda", cuda,
                "cpu", cpu));
        return 0;
      }
      System.out.printf("model    %s%n", model.folder());
      System.out.printf(
          "         %s, %d layers, d_model %d, %d heads (%d KV) of %d, d_mlp %d, vocabulary %d%n",
          family,
          config.nLayers(),
          config.dModel(),
          config.nHeads(),
          config.nKvHeads(),
          config.dHead(),
          config.dMlp(),
          config.vocabularySize());
      System.out.printf(
          "device   %s, activations %s%n",
          model.device().description(), model.llama().type().name().toLowerCase(Locale.ROOT));
      for (String detail : model.device().details()) {
        System.out.printf("         %s%n", detail);
      }
      System.out.printf("memory   %s%n", plan);
      System.out.printf("cuda     %s%n", cuda);
      System.out.printf("cpu      %s%n", cpu);
      return 0;
    }
  }

  private static String backend(Devices.Attempt attempt) {
    if (attempt.device() == null) {
      return "not used: " + attempt.reason();
    }
    String description = attempt.device().description();
    attempt.device().close();
    return "loads: " + description;
  }
}
