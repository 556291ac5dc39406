package dev.halter.cli.heads;

import dev.halter.heads.Behaviour;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

@Command(
    name = "trustllm",
    description = {
      "Makes pairs of prompts from a JSON list like TrustLLM's.",
      "They are of adversarial factuality (knowledge, modified knowledge, prompt), preference",
      "(option_a, option_b, prompt, type) or exaggerated safety (prompt)."
    })
final class PairsTrustLlmCommand implements Callable<Integer> {
  @Mixin BehaviourOptions options;

  @Override
  public Integer call() {
    return options.run(Behaviour::readTrustLlm);
  }
}
