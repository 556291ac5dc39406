package dev.halter.cli;

import dev.halter.files.Json;
import dev.halter.files.Shard;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.model.Capture;
import dev.halter.model.CaptureFile;
import dev.halter.model.Site;
import dev.halter.steering.PlanCache;
import dev.halter.steering.SteeringPlan;
import dev.halter.weights.SafetensorsShards;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "capture",
    description = {
      "Writes activations of prompts at chosen sites as safetensors, one tensor <id>/<site>.",
      "A line: {\"id\", \"prompt\"|\"messages\"|\"tokens\", \"plan\"?}."
    })
final class CaptureCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(names = "--in", paramLabel = "F", required = true, description = "Input lines.")
  Path in;

  @Option(names = "--out", paramLabel = "F", required = true, description = "Dump to write.")
  Path out;

  @Option(
      names = "--sites",
      paramLabel = "S",
      required = true,
      split = ",",
      description = "TransformerLens names, logits or all; * for every layer.")
  List<String> sites = new ArrayList<>();

  @Mixin ShardOptions shards;
  @Mixin OutputOptions output;

  /** A line that can be run. */
  private record Prompt(InputLine line, int[] tokens, SteeringPlan plan) {}

  @Override
  public Integer call() {
    try (LanguageModel model = options.open()) {
      Set<Site> captured = new LinkedHashSet<>();
      for (String site : sites) {
        captured.addAll(Site.expand(site.strip(), model.config()));
      }
      Shard shard = shards.shard();
      Map<String, String> metadata = CaptureFile.METADATA;
      if (!shard.isWhole()) {
        String job = ShardOptions.job(in, model.llama(), String.join(",", sites));
        metadata = SafetensorsShards.metadata(CaptureFile.METADATA, shard, job);
      }
      List<InputLine> lines = InputLine.all(in, shard, "plan");
      List<Prompt> prompts = prompts(model, lines);
      write(model, prompts, captured, metadata);
      int failed = lines.size() - prompts.size();
      if (output.isJson()) {
        output.print(
            Json.object(
                "lines", lines.size(),
                "captured", prompts.size(),
                "failed", failed,
                "sites", captured.size(),
                "out", out.toString()));
      } else {
        System.out.printf(
            "%,d prompts captured at %,d sites: %s%n", prompts.size(), captured.size(), out);
      }
      if (failed > 0) {
        System.err.printf("halter: %d of %d lines failed%n", failed, lines.size());
        return 1;
      }
      return 0;
    }
  }

  private List<Prompt> prompts(LanguageModel model, List<InputLine> lines) {
    PlanCache plans =
        new PlanCache(model.config(), in.toAbsolutePath().getParent(), SteeringPlan.NONE);
    List<Prompt> prompts = new ArrayList<>();
    for (InputLine line : lines) {
      try {
        if (line.error() != null) {
          throw new IllegalArgumentException(line.error());
        }
        Prompt prompt = new Prompt(line, line.prompt(model), plans.of(line.json()));
        model.engine().check(request(prompt));
        prompts.add(prompt);
      } catch (IllegalArgumentException e) {
        System.err.println("halter: " + in + ", " + line.failure(e.getMessage()));
      }
    }
    return prompts;
  }

  private static Request request(Prompt prompt) {
    return Request.of(prompt.tokens)
        .withId(prompt.line.id().toString())
        .withMaxTokens(0)
        .with(prompt.plan);
  }

  private void write(
      LanguageModel model, List<Prompt> prompts, Set<Site> captured, Map<String, String> metadata) {
    List<TensorSpec> specs = new ArrayList<>();
    for (Prompt prompt : prompts) {
      for (Site site : captured) {
        int[] shape = Capture.shape(site, model.config(), prompt.tokens.length);
        specs.add(CaptureFile.tensor(prompt.line.id().toString(), site, shape));
      }
    }
    // A few prompts at a time: their activations are in memory until they are written.
    int together = 8;
    try (SafetensorsWriter dump = SafetensorsWriter.create(out, metadata, specs);
        ProgressBar bar = new ProgressBar("capture", prompts.size())) {
      for (int first = 0; first < prompts.size(); first += together) {
        List<Prompt> batch = prompts.subList(first, Math.min(prompts.size(), first + together));
        List<Request> requests = new ArrayList<>();
        for (Prompt prompt : batch) {
          Capture capture = new Capture(model.config(), captured, prompt.tokens.length);
          requests.add(request(prompt).with(capture));
        }
        model.engine().run(requests).forEach(result -> result.orThrow());
        for (int i = 0; i < batch.size(); i++) {
          Prompt prompt = batch.get(i);
          requests
              .get(i)
              .capture()
              .values()
              .forEach((site, values) -> dump.write(name(prompt, site), values));
        }
        bar.at(first + batch.size());
      }
    }
  }

  private static String name(Prompt prompt, Site site) {
    return CaptureFile.name(prompt.line.id().toString(), site);
  }
}
