package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.golden;
import static dev.halter.cli.CommandLineRun.halter;
import static dev.halter.cli.CommandLineRun.keys;
import static dev.halter.cli.CommandLineRun.parse;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** {@code halter tune}: keys, the folder that it leaves, errors. */
class TuneTest {
  @TempDir Path folder;
  private final Path model = golden("llama3").resolve("model"); // 3 layers of 6 heads
  private Path data;

  @BeforeEach
  void writeData() throws IOException {
    data = folder.resolve("data.jsonl");
    Files.writeString(
        data,
        """
        {"prompt_tokens": [5, 9, 20, 7], "completion_tokens": [30, 31]}
        {"prompt_tokens": [5, 11, 20], "completion_tokens": [31, 30, 12]}
        {"prompt_tokens": [8], "completion_tokens": [40]}
        """);
  }

  private CommandLineRun tune(Path out, Object... more) {
    Object[] fixed = {"tune", "--model", model, "--data", data, "--out", out};
    return halter(Stream.of(fixed, more).flatMap(Stream::of).toArray());
  }

  @Test
  void learnsPrintsItsStepsAndWritesAModel() throws IOException {
    Path out = folder.resolve("tuned");
    Object[] options = {
      "--heads",
      "1.2,2.0",
      "--mlps",
      "2",
      "--learning-rate",
      "0.01",
      "--batch-size",
      "2",
      "--epochs",
      "4",
      "--lr-scheduler",
      "constant",
      "--json"
    };
    JsonNode result = tune(out, options).json();
    assertEquals(
        List.of("parameters", "steps", "tokens_per_second", "peak_bytes", "out"), keys(result));
    int head = 8 * 48; // d_head d_model
    assertEquals(2 * 4 * head + 3 * 80 * 48, result.get("parameters").asInt());
    JsonNode steps = result.get("steps");
    assertEquals(8, steps.size()); // two of an epoch, the second of one line
    assertEquals(
        List.of("step", "loss", "grad_norm", "learning_rate", "tokens"), keys(steps.get(0)));
    for (int i = 0; i < 8; i++) {
      assertEquals(i + 1, steps.get(i).get("step").asInt());
      assertEquals(0.01, steps.get(i).get("learning_rate").asDouble());
    }
    assertEquals(6, steps.get(0).get("tokens").asInt() + steps.get(1).get("tokens").asInt());
    double first = steps.get(0).get("loss").asDouble() + steps.get(1).get("loss").asDouble();
    double last = steps.get(6).get("loss").asDouble() + steps.get(7).get("loss").asDouble();
    assertTrue(last < first / 2, first + " to " + last);
    assertTrue(result.get("tokens_per_second").asDouble() > 0);
    assertTrue(result.get("peak_bytes").asLong() > 0);

    JsonNode note = parse(Files.readString(out.resolve("tune.json")));
    assertEquals("1.2", note.get("heads").get(0).asText());
    assertEquals(steps, note.get("steps"));
    Path again = folder.resolve("again");
    assertEquals(steps, tune(again, options).json().get("steps"));
    // What it has learnt shows in the model that it wrote: the first step's loss is another.
    JsonNode more =
        halter(
                Stream.concat(
                        Stream.of("tune", "--model", out, "--data", data, "--out"),
                        Stream.concat(Stream.of(folder.resolve("more")), Stream.of(options)))
                    .toArray())
            .json();
    assertTrue(
        more.get("steps").get(0).get("loss").asDouble() < steps.get(0).get("loss").asDouble() / 2);
  }

  @Test
  void measuresWhatItDoesNotLearn() throws IOException {
    JsonNode result =
        tune(
                folder.resolve("tuned"),
                "--heads",
                "1.2,2.0",
                "--mlps",
                "2",
                "--learning-rate",
                "0.02",
                "--max-steps",
                "30",
                "--eval-data",
                data,
                "--json")
            .json();
    JsonNode eval = result.get("eval");
    assertEquals(List.of("before", "after"), keys(eval));
    assertEquals(List.of("loss", "accuracy", "exact"), keys(eval.get("before")));
    assertEquals(
        result.get("steps").get(0).get("loss").asDouble(),
        eval.get("before").get("loss").asDouble(),
        1e-5);
    assertTrue(eval.get("before").get("exact").asDouble() < 1);
    assertEquals(1, eval.get("after").get("exact").asDouble());
    JsonNode note = parse(Files.readString(folder.resolve("tuned/tune.json")));
    assertEquals(eval, note.get("eval"));
  }

  @Test
  void goesOnFromACheckpoint() throws IOException {
    Object[] options = {
      "--heads",
      "1.2",
      "--learning-rate",
      "0.01",
      "--batch-size",
      "1",
      "--epochs",
      "2",
      "--json",
      "--save-steps",
      "2",
      "--resume"
    };
    JsonNode whole = tune(folder.resolve("whole"), options).json();
    Path out = folder.resolve("tuned");
    Path checkpoint = folder.resolve("tuned.checkpoint.safetensors");
    assertFalse(Files.exists(checkpoint));
    Object[] more = Stream.concat(Stream.of(options), Stream.of("--threads", "1")).toArray();
    Files.writeString(checkpoint, "no checkpoint");
    String error = tune(out, more).err();
    assertTrue(error.contains("tuned.checkpoint.safetensors"), error);
    Files.delete(checkpoint);
    JsonNode again = tune(out, more).json();
    assertEquals(whole.get("steps"), again.get("steps"));
    assertFalse(Files.exists(checkpoint));
    assertEquals(
        -1,
        Files.mismatch(
            folder.resolve("whole/model.safetensors"), out.resolve("model.safetensors")));
  }

  /** TuningRunTest shows that the plan does what was learnt. */
  @ParameterizedTest
  @ValueSource(strings = {"scale", "bias"})
  void vectorsOfHeadsAreServedAsAPlan(String train) throws IOException {
    Path out = folder.resolve("tuned");
    JsonNode result =
        tune(
                out,
                "--heads",
                "1.2,2.0",
                "--train",
                train,
                "--learning-rate",
                "0.3",
                "--max-steps",
                "20",
                "--json")
            .json();
    assertEquals(2 * 8, result.get("parameters").asInt());
    double first = result.get("steps").get(0).get("loss").asDouble();
    double last = result.get("steps").get(19).get("loss").asDouble();
    assertTrue(last < first - 0.1, first + " to " + last);
    JsonNode note = parse(Files.readString(out.resolve("tune.json")));
    assertEquals(train, note.get("train").asText());
    assertEquals("none", note.get("grad_scale").asText());

    Path prompts = folder.resolve("prompts.jsonl");
    Files.writeString(prompts, "{\"id\": 1, \"tokens\": [5, 9, 20, 7]}\n");
    Object[] capture = {"capture", "--model", model, "--in", prompts, "--sites", "logits", "--out"};
    Path plain = folder.resolve("plain.safetensors");
    assertEquals(
        0, halter(Stream.of(capture, new Object[] {plain}).flatMap(Stream::of).toArray()).code());
    Files.writeString(
        prompts,
        "{\"id\": 1, \"tokens\": [5, 9, 20, 7], \"plan\": \"%s\"}\n"
            .formatted(out.resolve("plan.json")));
    Path steered = folder.resolve("steered.safetensors");
    CommandLineRun run =
        halter(Stream.of(capture, new Object[] {steered}).flatMap(Stream::of).toArray());
    assertEquals(0, run.code(), run.err());
    assertNotEquals(-1, Files.mismatch(plain, steered));
  }

  @Test
  void bf16LearnsTooAndGivesTheSameBytesEveryTime() throws IOException {
    String[] with = {"--heads", "1.0,2.3", "--epochs", "4", "--learning-rate", "3e-3"};
    List<Path> outs = new ArrayList<>();
    for (String type : List.of("bf16", "bf16", "f32")) {
      Path out = folder.resolve("tuned" + outs.size());
      Object[] more =
          Stream.concat(Stream.of(with), Stream.of("--dtype", type, "--json")).toArray();
      JsonNode steps = tune(out, more).json().get("steps");
      double first = steps.get(0).get("loss").asDouble();
      double last = steps.get(steps.size() - 1).get("loss").asDouble();
      assertTrue(last < first, "a loss of " + first + " becomes " + last);
      assertEquals(type, parse(Files.readString(out.resolve("tune.json"))).get("dtype").asText());
      outs.add(out.resolve("model.safetensors"));
    }
    assertEquals(-1, Files.mismatch(outs.get(0), outs.get(1)));
    assertNotEquals(-1, Files.mismatch(outs.get(0), outs.get(2)));
  }

  @Test
  void drawsItsLossAndTellsWhatItTakes() throws IOException {
    Path curve = folder.resolve("loss.svg");
    CommandLineRun run =
        tune(
            folder.resolve("tuned"),
            "--heads",
            "1.2",
            "--max-steps",
            "150",
            "--curve",
            curve,
            "--learning-rate",
            "0.01",
            "--eval-data",
            data);
    assertEquals(0, run.code(), run.err());
    assertTrue(run.err().contains("memory: weights "), run.err());
    assertTrue(run.err().contains("loss "), run.err());
    assertTrue(run.err().lines().count() < 12, "no line for each step: " + run.err());
    String svg = Files.readString(curve);
    assertTrue(svg.contains("steps 1 to 3: ") && svg.contains("steps 148 to 150: "), svg);
    assertTrue(svg.contains("held-out texts at the end: "), svg);
  }

  @Test
  void mlpsMayBeTunedAlone() {
    JsonNode result =
        tune(folder.resolve("tuned"), "--mlps", "1", "--epochs", "1", "--json").json();
    assertEquals(3 * 80 * 48, result.get("parameters").asInt());
  }

  @Test
  void headsMayComeFromEffectsAndPartsMayBeFewer() throws IOException {
    Path effects = folder.resolve("effects.json");
    Path pairs = folder.resolve("pairs.jsonl");
    Files.writeString(
        pairs,
        """
        {"reference_tokens": [5, 9, 20, 7], "counterfactual_tokens": [5, 11, 20, 7], "answer_token": 30}
        """);
    assertEquals(
        0, halter("heads", "patch", "--model", model, "--pairs", pairs, "--out", effects).code());
    JsonNode result =
        tune(
                folder.resolve("tuned"),
                "--effects",
                effects,
                "--top",
                "2",
                "--heads-parts",
                "q,o",
                "--max-steps",
                "1",
                "--json")
            .json();
    assertEquals(2 * 2 * 8 * 48, result.get("parameters").asInt());
    assertEquals(1, result.get("steps").size());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '"',
      value = {
        "--heads 3.0 | '3.0' is no head of this model",
        "--heads 1.0 --mlps 3 | --mlps names layer 3",
        "--heads 1.0 --heads-parts q,x | --heads-parts is 'x'",
        "--heads 1.0 --batch-size 0 | --batch-size is 0",
        "--heads 1.0 --learning-rate -1 | --learning-rate is -1.0",
        "--heads 1.0 --learning-rate NaN | --learning-rate is NaN",
        "--heads 1.0 --epochs 1 --max-steps 1 | give one",
        "--heads 1.0 --warmup-ratio 2 | --warmup-ratio is 2.0",
        "--heads 1.0 --lr-scheduler warm | --lr-scheduler is 'warm'",
        "--heads 1.0 --context 99 | --max-seq-len",
        "--heads 1.0 --mlps 1 --adapter /nowhere/else | leave --adapter",
        "--heads 1.0 --max-seq-len 4 | data.jsonl",
        "--heads 1.0 --max-seq-len 4000 | 512 positions",
        "--heads 1.0 --train norms | --train is 'norms'",
        "--heads 1.0 --train scale --mlps 1 | --mlps is of weights",
        "--heads 1.0 --train bias --heads-parts q | --heads-parts is of weights",
        "--heads 1.0 --train bias --grad-scale heads | --grad-scale is of weights",
        "--heads 1.0 --train bias --adapter /nowhere/else | --adapter is of weights",
        "--train bias | nothing to tune",
        "--mlps 1 --heads-parts q | --heads-parts is of heads",
        "--heads 0.1 --cache-prefix 9 | leave it out",
        "--heads 1.0 --cache-prefix 0 | --cache-prefix is 0",
        "--heads 1.0 --recompute 3 | only 2 layers have gradients",
        "--heads 1.0 --recompute -1 | --recompute is -1",
        "--heads 1.0 --curve loss.pdf | must end in .svg",
        "--max-steps 1 | nothing to tune: name heads by --heads",
        "--effects there --mlps 1 | --effects goes with --top",
      })
  void wrongUseIsNamedAndLeavesNothing(String options, String word) {
    Path out = folder.resolve("tuned");
    CommandLineRun run = tune(out, (Object[]) options.split(" "));
    assertTrue(run.code() == 2 || run.code() == 1, run.err());
    String error = run.error(run.code());
    assertTrue(error.contains(word), error);
    assertFalse(Files.exists(out));
  }

  @Test
  void aFolderThatIsThereIsNotOverwritten() {
    String error = tune(folder, "--heads", "1.0").error(2);
    assertTrue(error.contains("exists already"), error);
  }
}
