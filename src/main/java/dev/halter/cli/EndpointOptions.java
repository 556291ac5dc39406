package dev.halter.cli;

import dev.halter.text.Chat;
import dev.halter.text.Endpoint;
import picocli.CommandLine.Option;

/** A model behind an OpenAI-compatible interface, for commands that ask one. */
public final class EndpointOptions {
  @Option(
      names = "--endpoint",
      paramLabel = "URL",
      description =
          "Who is asked: base URL of an OpenAI-compatible interface, like http://localhost:8000/v1.")
  String url;

  @Option(
      names = "--model-name",
      paramLabel = "NAME",
      description = "The model's name at the endpoint.")
  String modelName;

  @Option(
      names = "--api-key-env",
      paramLabel = "NAME",
      defaultValue = "OPENAI_API_KEY",
      description =
          "Environment variable that holds the endpoint's API key (default: ${DEFAULT-VALUE}).")
  String keyVariable;

  @Option(
      names = "--request",
      paramLabel = "JSON",
      description =
          "Members of the requests besides model and messages (default: temperature 0, and"
              + " max_tokens as the answers need).")
  String request;

  @Option(
      names = "--parallel",
      paramLabel = "N",
      defaultValue = "8",
      description = "Requests to the endpoint at once (default: ${DEFAULT-VALUE}).")
  int parallel;

  @Option(
      names = "--retries",
      paramLabel = "N",
      defaultValue = "6",
      description =
          "How often a request that failed is sent again, waiting longer each time (default:"
              + " ${DEFAULT-VALUE}).")
  int retries;

  /** Whether an endpoint is named. */
  public boolean isGiven() {
    return url != null;
  }

  /** Whether something is said that only an endpoint can use. */
  public boolean hasDetails() {
    return modelName != null || request != null;
  }

  /** Refuses {@link #hasDetails} where there is no endpoint. */
  public void refuseDetails() {
    if (hasDetails()) {
      throw new WrongUseException("--model-name and --request go with --endpoint");
    }
  }

  /**
   * The endpoint that is named; nothing is sent yet.
   *
   * @param maxTokens most tokens of an answer where {@code --request} is left out
   */
  public Chat open(int maxTokens) {
    if (modelName == null) {
      throw new WrongUseException("name the endpoint's model with --model-name NAME");
    }
    if (parallel < 1 || parallel > 1000 || retries < 0) {
      throw new WrongUseException("--parallel must be from 1 to 1000, --retries 0 or more");
    }
    String key = System.getenv(keyVariable);
    if (key == null && !keyVariable.equals("OPENAI_API_KEY")) {
      throw new WrongUseException("--api-key-env: there is no variable " + keyVariable);
    }
    String members =
        request == null ? "{\"temperature\": 0, \"max_tokens\": " + maxTokens + "}" : request;
    return new Endpoint(
        new Endpoint.Settings(
            url, modelName, key == null ? "" : key.strip(), members, parallel, retries));
  }
}
