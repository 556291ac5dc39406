package dev.halter.serving;

import dev.halter.generation.Generation;
import dev.halter.generation.LogProbabilities;
import dev.halter.generation.Request;
import dev.halter.generation.Sampling;
import dev.halter.serving.dialects.Neuronpedia;
import dev.halter.steering.SteeringPlan;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.stream.Stream;

/**
 * Neuronpedia's inference server: one prompt answered steered and as it is, side by side. Both of a
 * request draw alike.
 */
final class SteerRoutes {
  private final Backend backend;

  SteerRoutes(Backend backend) {
    this.backend = backend;
  }

  List<Route> routes() {
    return Stream.of(
            Route.user("POST", "/v1/steer/completion", exchange -> steer(exchange, false)),
            Route.user("POST", "/v1/steer/completion-chat", exchange -> steer(exchange, true)),
            Route.user("POST", "/steer", exchange -> steer(exchange, false)),
            Route.user("POST", "/steer-chat", exchange -> steer(exchange, true)))
        .map(Route::tellingErrorsPlainly)
        .toList();
  }

  private void steer(Exchange exchange, boolean isChat) throws IOException {
    Fields fields = exchange.fields();
    Neuronpedia asked =
        Fields.read(
            null,
            () -> Neuronpedia.read(fields.reading("prompt"), isChat, backend.model().config()));
    requireOnePlan(exchange, asked);
    String prompt = isChat ? render(asked) : asked.prompt();
    int[] tokens = backend.encode("prompt", prompt, !isChat);
    int room = backend.room("prompt", tokens.length, -1);
    GenerationFields how = how(asked, Math.min(room, asked.maxTokens()));
    SteeringPlan first = backend.plans().first();
    SteeringPlan steered = first.then(asked.plan(special(tokens)));
    Request request =
        backend
            .model()
            .request(tokens)
            .withMaxTokens(how.maxTokens())
            .withStopTokens(backend.model().stopTokens())
            .with(how.logProbabilities())
            .with(how.sampling());
    List<Request> requests = new ArrayList<>();
    for (Neuronpedia.Type type : asked.types()) {
      requests.add(
          request.withId("steer-" + type).with(type == Neuronpedia.Type.STEERED ? steered : first));
    }
    List<Choice> choices = new ArrayList<>();
    for (Generation generation : backend.submit(requests)) {
      choices.add(
          new Choice(choices.size(), prompt, generation, !isChat, how, backend.tokenizer()));
    }
    try (Metrics.Watch watch = backend.metrics().watch()) {
      new SteerAnswers(asked, prompt, choices, watch, exchange).send();
    }
  }

  /** The vectors are the plan of what is steered; what is not has none. */
  private void requireOnePlan(Exchange exchange, Neuronpedia asked) {
    List<String> ways = new ArrayList<>(List.of("\"vectors\""));
    if (asked.model() != null && backend.alias(asked.model()) != null) {
      ways.add("\"model\"");
    }
    if (exchange.header(Backend.PLAN_HEADER) != null) {
      ways.add("the header " + Backend.PLAN_HEADER);
    }
    Backend.requireOne(ways);
  }

  private String render(Neuronpedia asked) {
    try {
      return backend.model().template().render(asked.messages(), true, Map.of());
    } catch (IllegalArgumentException e) { // the template's own words, or that there is none
      throw ApiError.badRequest("prompt", e.getMessage());
    }
  }

  private static GenerationFields how(Neuronpedia asked, int maxTokens) {
    long seed = asked.seed() == null ? ThreadLocalRandom.current().nextLong() : asked.seed();
    Sampling sampling =
        new Sampling(
            asked.temperature(), 0, 1, 0, 1, 0, asked.frequencyPenalty(), Map.of(), Set.of(), seed);
    return new GenerationFields(
        maxTokens,
        0,
        1,
        sampling,
        true,
        List.of(),
        false,
        new HashSet<>(), // which can be asked for null
        false,
        true,
        asked.isStream(),
        false,
        false,
        false,
        false,
        new LogProbabilities(asked.top(), -1, List.of()),
        null,
        null);
  }

  /** Those of a prompt that are left out of its text where special tokens are. */
  private Set<Integer> special(int[] tokens) {
    Set<Integer> special = new HashSet<>();
    for (int token : tokens) {
      int[] one = {token};
      if (backend.tokenizer().decode(one, true).isEmpty()
          && !backend.tokenizer().decode(one, false).isEmpty()) {
        special.add(token);
      }
    }
    return special;
  }
}
