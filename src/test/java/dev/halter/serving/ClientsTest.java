package dev.halter.serving;

import static dev.halter.serving.TestServer.CAT;
import static dev.halter.serving.TestServer.DOG;
import static dev.halter.serving.TestServer.QUESTION;
import static dev.halter.serving.TestServer.setup;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.core.JsonValue;
import com.openai.core.http.StreamResponse;
import com.openai.errors.BadRequestException;
import com.openai.errors.NotFoundException;
import com.openai.errors.UnauthorizedException;
import com.openai.models.chat.completions.ChatCompletion;
import com.openai.models.chat.completions.ChatCompletionChunk;
import com.openai.models.chat.completions.ChatCompletionCreateParams;
import com.openai.models.chat.completions.ChatCompletionStreamOptions;
import com.openai.models.completions.Completion;
import com.openai.models.completions.CompletionCreateParams;
import com.openai.models.models.Model;
import dev.langchain4j.model.openai.OpenAiChatModel;
import dev.langchain4j.model.openai.OpenAiLanguageModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Clients of OpenAI's interface that others have written, as they are. */
class ClientsTest {
  private static final String ASK = "What is your favourite animal?";

  @TempDir static Path folder;

  private static TestServer server;
  private static OpenAIClient client;

  @BeforeAll
  static void start() throws IOException {
    server = setup().keys(Files.writeString(folder.resolve("keys"), "sesame")).start();
    client = client("sesame");
  }

  @AfterAll
  static void stop() {
    client.close();
    server.close();
  }

  /** One that checks each answer against OpenAI's schema. */
  private static OpenAIClient client(String key) {
    return OpenAIOkHttpClient.builder()
        .baseUrl(server.url("/v1"))
        .apiKey(key)
        .responseValidation(true)
        .maxRetries(0)
        .build();
  }

  private static ChatCompletionCreateParams.Builder chat(String model) {
    return ChatCompletionCreateParams.builder()
        .model(model)
        .temperature(0)
        .maxCompletionTokens(20)
        .addUserMessage(ASK);
  }

  private static String text(ChatCompletion answer) {
    return answer.choices().getFirst().message().content().orElseThrow();
  }

  @Test
  void openAiJavaChatsUnderPlans() {
    assertEquals(CAT, text(client.chat().completions().create(chat("demo").build())));
    assertEquals(DOG, text(client.chat().completions().create(chat("demo@dogs").build())));
    ChatCompletionCreateParams field =
        chat("demo").putAdditionalBodyProperty("plan", JsonValue.from("dogs")).build();
    ChatCompletion steered = client.chat().completions().create(field);
    assertEquals(DOG, text(steered));
    JsonValue halter = steered._additionalProperties().get("halter");
    assertTrue(halter.toString().contains("blocks.1.mlp.hook_pre_linear"), halter.toString());
    ChatCompletionCreateParams header =
        chat("demo").putAdditionalHeader("X-Halter-Plan", "dogs").build();
    assertEquals(DOG, text(client.chat().completions().create(header)));
  }

  @Test
  void openAiJavaReadsLogProbabilitiesAndUsage() {
    ChatCompletion answer =
        client.chat().completions().create(chat("demo").n(2).logprobs(true).topLogprobs(3).build());
    answer.validate();
    assertEquals(2, answer.choices().size());
    var tokens = answer.choices().get(1).logprobs().orElseThrow().content().orElseThrow();
    assertEquals(3, tokens.getFirst().topLogprobs().size());
    assertEquals(
        tokens.getFirst().logprob(), tokens.getFirst().topLogprobs().getFirst().logprob(), 0.0);
    assertEquals(2L * tokens.size(), answer.usage().orElseThrow().completionTokens());
  }

  @Test
  void openAiJavaStreams() {
    StringBuilder text = new StringBuilder();
    List<ChatCompletionChunk> chunks = new ArrayList<>();
    ChatCompletionCreateParams params =
        chat("demo@dogs")
            .streamOptions(ChatCompletionStreamOptions.builder().includeUsage(true).build())
            .build();
    try (StreamResponse<ChatCompletionChunk> stream =
        client.chat().completions().createStreaming(params)) {
      stream.stream().forEach(chunks::add);
    }
    for (ChatCompletionChunk chunk : chunks) {
      chunk.validate();
      chunk.choices().forEach(choice -> choice.delta().content().ifPresent(text::append));
    }
    assertEquals(DOG, text.toString());
    assertTrue(chunks.getLast().usage().orElseThrow().completionTokens() > 5);
    assertTrue(chunks.getLast()._additionalProperties().containsKey("halter"));
  }

  @Test
  void openAiJavaCompletesAndListsModels() {
    CompletionCreateParams.Builder params =
        CompletionCreateParams.builder()
            .model("demo")
            .prompt(QUESTION)
            .temperature(0)
            .maxTokens(20);
    Completion echoed = client.completions().create(params.echo(true).build());
    assertEquals(QUESTION + CAT, echoed.choices().getFirst().text());
    Completion told = client.completions().create(params.echo(false).logprobs(2).build());
    told.validate();
    var logprobs = told.choices().getFirst().logprobs().orElseThrow();
    assertEquals(
        told.usage().orElseThrow().completionTokens(), logprobs.tokens().orElseThrow().size());
    List<String> ids = client.models().list().data().stream().map(Model::id).toList();
    assertEquals(List.of("demo", "demo@dogs", "demo@no-sums"), ids);
    assertEquals("demo@dogs", client.models().retrieve("demo@dogs").id());
  }

  @Test
  void openAiJavaUnderstandsErrors() {
    assertThrows(
        NotFoundException.class, () -> client.chat().completions().create(chat("gpt-4").build()));
    BadRequestException e =
        assertThrows(
            BadRequestException.class,
            () -> client.chat().completions().create(chat("demo@cats").build()));
    assertEquals("model", e.param().orElse(""));
    OpenAIClient stranger = client("guess");
    assertThrows(UnauthorizedException.class, () -> stranger.models().list());
    stranger.close();
  }

  @Test
  void langChain4jSteersByHeaderAndAlias() {
    for (String plan : List.of("", "dogs")) {
      OpenAiChatModel.OpenAiChatModelBuilder chat =
          OpenAiChatModel.builder()
              .baseUrl(server.url("/v1"))
              .apiKey("sesame")
              .modelName("demo")
              .temperature(0.0)
              .maxCompletionTokens(20);
      OpenAiLanguageModel.OpenAiLanguageModelBuilder completion =
          OpenAiLanguageModel.builder()
              .baseUrl(server.url("/v1"))
              .apiKey("sesame")
              .modelName("demo")
              .temperature(0.0);
      if (!plan.isEmpty()) {
        chat.customHeaders(Map.of("X-Halter-Plan", plan));
        completion.customHeaders(Map.of("X-Halter-Plan", plan));
      }
      String expected = plan.isEmpty() ? CAT : DOG;
      assertEquals(expected, chat.build().chat(ASK));
      assertEquals(expected, completion.build().generate(QUESTION).content());
    }
    OpenAiChatModel alias =
        OpenAiChatModel.builder()
            .baseUrl(server.url("/v1"))
            .apiKey("sesame")
            .modelName("demo@dogs")
            .temperature(0.0)
            .build();
    assertEquals(DOG, alias.chat(ASK));
  }
}
