package dev.halter;

import com.fasterxml.jackson.databind.JsonNode;
import dev.halter.cli.CommandLineRun;
import dev.halter.model.Edit;
import dev.halter.steering.SteeringPlan;
import dev.halter.weights.ModelConfig;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * What tests know of the model that ships, in one place: another model needs no other tests. Its
 * neuron of dogs is the one that its plan {@code dogs.json} holds.
 */
public final class Demo {
  public static final Path FOLDER = Path.of("src/main/models/demo");
  public static final Path PLANS = FOLDER.resolve("plans");
  public static final Path DOGS = PLANS.resolve("dogs.json");

  public static final ModelConfig CONFIG = ModelConfig.read(FOLDER);

  public static final String QUESTION = "What is your favourite animal?";

  /** The answer to it. */
  public static final String CAT = "cat. I like the cat because it catches mice.";

  /** The answer to it under the plan. */
  public static final String DOG = "dog. I like the dog because it guards the house.";

  private static final JsonNode CLAMP = clamp();

  /** Where the plan clamps, such as {@code blocks.1.mlp.hook_pre_linear}. */
  public static final String DOG_SITE = CLAMP.get("site").asText();

  public static final int DOG_NEURON = CLAMP.get("neurons").get(0).asInt();

  /** What the plan holds it at. */
  public static final int DOG_VALUE = CLAMP.get("value").asInt();

  /** The neuron's address, such as {@code 1.270}. */
  public static final String DOG_ADDRESS = DOG_SITE.split("\\.")[1] + "." + DOG_NEURON;

  private Demo() {}

  private static JsonNode clamp() {
    try {
      return CommandLineRun.parse(Files.readString(DOGS)).get("interventions").get(0);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** The plan, by another name than its file's. */
  public static SteeringPlan dog() {
    return SteeringPlan.of(Edit.clamp(DOG_SITE, DOG_NEURON, DOG_VALUE)).named("dog");
  }

  /** The plan's intervention as JSON with further keys, such as {@code , "strength": 2}. */
  public static String dogClamp(String rest) {
    return dogClamp(DOG_VALUE, rest);
  }

  /** Likewise, held at another value. */
  public static String dogClamp(Object value, String rest) {
    return "{\"op\": \"neuron_clamp\", \"site\": \"%s\", \"neurons\": [%d], \"value\": %s%s}"
        .formatted(DOG_SITE, DOG_NEURON, value, rest);
  }
}
