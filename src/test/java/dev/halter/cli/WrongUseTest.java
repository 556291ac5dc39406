package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.halter;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Help, exit codes, and errors of one line. */
class WrongUseTest {

  @ParameterizedTest
  @CsvSource(
      delimiter = ':',
      value = {
        "demo: --concept --json --model --device --dtype --threads",
        "info: --json --model --device --dtype --threads",
        "tokens: --prompt --messages --json --model",
        "generate: --prompt --messages --plan --max-tokens --temperature --top-p --top-k --seed --min-p --logit-bias --min-tokens --logprobs",
        "batch: --in --out --plan --max-batch --resume --model",
        "capture: --in --sites --out --model",
        "map: --out --proj --decode --sign --top --model --map --export --html --concept --ask",
        "neurons: --map --token --neuron --top --min-probability --layers --any-model --verify",
        "agree: A B --json",
        "dose: --neuron --site --values --prompt --token --json",
        "edit tars: --concept --prompt --ask --edits --matrices --noise --draws --held-out --out --json"
      })
  void everyCommandHelpsWithItsOptions(String command, String options) {
    CommandLineRun run = halter((Object[]) (command + " --help").split(" "));
    assertEquals(0, run.code());
    assertEquals("", run.err());
    assertTrue(run.out().startsWith("Usage: halter " + command), run.out());
    for (String option : options.strip().split(" ")) {
      assertTrue(run.out().contains(option), option + " is missing in " + run.out());
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "dance",
        "info --nonsense",
        "info extra",
        "info --device tpu",
        "info --dtype int4",
        "info --threads -1",
        "info --threads many",
        "info --context -1",
        "tokens",
        "tokens --prompt a --ask b",
        "generate",
        "generate --prompt a --temperature -1",
        "generate --prompt a --temperature nan",
        "generate --prompt a --top-p 0",
        "generate --prompt a --top-p 1.5",
        "generate --prompt a --top-k -1",
        "generate --prompt a --min-p 2",
        "generate --prompt a --repetition-penalty 0",
        "generate --prompt a --presence-penalty nan",
        "generate --prompt a --logit-bias 5",
        "generate --prompt a --logit-bias a=5",
        "generate --prompt a --logit-bias 5=nan",
        "generate --prompt a --allowed-tokens a",
        "generate --prompt a --min-tokens -1",
        "generate --prompt a --prompt-logprobs 3",
        "generate --prompt a --json --prompt-logprobs 1001",
        "batch --in a --out b --logprobs -2",
        "batch --in a --out b --min-tokens -1",
        "generate --prompt a --max-tokens -1",
        "batch --in a",
        "batch --in a --out b --max-tokens -1",
        "batch --in a --out b --max-batch -1 --temperature -1",
        "capture --in a --out b",
        "map",
        "map --out m --proj sideways",
        "map --out m --decode loud",
        "map --out m --sign minor",
        "map --out m --top 0",
        "map --export m.xlsx",
        "map --map m",
        "map --map m --out n",
        "map --map m --export n.csv --proj up",
        "map --html m --concept dog",
        "map --html m --ask a",
        "map --concept dog --ask a",
        "map --html m --concept dog --ask a --values nan",
        "neurons --map m",
        "neurons --map m --neuron 1.2 --token dog",
        "neurons --map m --neuron one",
        "neurons --map m --token dog --top 0",
        "neurons --map m --token dog --min-probability 2",
        "neurons --map m --token dog --layers 5..2",
        "neurons --map m --token dog --layers some",
        "neurons --map m --neuron 1.2 --layers 1",
        "neurons --map m --token dog --verify",
        "neurons --map m --token dog --prompt a",
        "neurons --map m --token dog --verify --prompt a --value nan",
        "neurons --map m --token dog --verify --prompt a --candidates 0",
        "neurons --map m --neuron 1.2 --verify --prompt a",
        "agree one",
        "dose --neuron 0.1 --values nan --prompt a --token dog",
        "dose --neuron 0.1 --values , --prompt a --token dog",
        "dose --neuron 0,1 --values 1 --prompt a --token dog",
        "edit",
        "edit tars --concept dog --out new",
        "edit tars --concept dog --prompt a --out new --edits 0",
        "edit tars --concept dog --prompt a --out new --edits 100000",
        "edit tars --concept dog --prompt a --out new --noise 0",
        "edit tars --concept dog --prompt a --out new --matrices q",
        "edit tars --concept dog --prompt a --out src"
      })
  void wrongUseIsOneLineAndExitCode2(String arguments) {
    halter((Object[]) arguments.split(" ")).error(2);
  }

  @Test
  void noCommandAtAllShowsTheCommands() {
    CommandLineRun run = halter();
    assertEquals(2, run.code());
    assertEquals("", run.out());
    assertTrue(run.err().contains("generate"), run.err());
  }

  @Test
  void wrongUseSaysWhichCommandHelps() {
    String error = halter("generate").error(2);
    assertTrue(error.contains("--prompt") && error.contains("halter generate --help"), error);
  }

  @Test
  void whatCannotBeDoneIsOneLineAndExitCode1(@TempDir Path folder) {
    String plan = folder.resolve("no-plan.json").toString();
    Map<String, String[]> failures =
        Map.of(
            plan,
            new String[] {"generate", "--prompt", "a", "--plan", plan},
            "layer 99",
            new String[] {
              "dose", "--neuron", "99.0", "--values", "1", "--token", "dog", "--prompt", "a"
            },
            "neurons are 0 to",
            new String[] {
              "dose", "--neuron", "0.99999", "--values", "1", "--token", "dog", "--prompt", "a"
            },
            "no single token",
            new String[] {
              "dose", "--neuron", "0.0", "--values", "1", "--token", "dogcatdog", "--prompt", "a"
            },
            "no site 'hook_nose'",
            new String[] {
              "capture",
              "--in",
              "a",
              "--out",
              folder.resolve("o").toString(),
              "--sites",
              "hook_nose"
            },
            folder.resolve("none.jsonl") + ": no such file",
            new String[] {
              "batch", "--in", folder.resolve("none.jsonl").toString(), "--out", plan + ".out"
            },
            folder.resolve("none.safetensors") + ": no such file",
            new String[] {
              "neurons", "--token", "dog", "--map", folder.resolve("none.safetensors").toString()
            },
            folder.resolve("map") + ": no such file",
            new String[] {"agree", folder.resolve("map").toString(), "b"});
    failures.forEach(
        (expected, arguments) -> {
          String error = halter((Object[]) arguments).error(1);
          assertTrue(error.contains(expected), error);
        });
  }

  @Test
  void debugAddsTheTrace(@TempDir Path folder) {
    Path nothing = folder.resolve("nothing");
    String error = halter("info", "--model", nothing).error(1);
    CommandLineRun traced = halter("--debug", "info", "--model", nothing);
    assertEquals(1, traced.code());
    assertEquals(error, traced.err().lines().findFirst().orElseThrow());
    assertTrue(traced.err().contains("\tat dev.halter."), traced.err());
    CommandLineRun after = halter("info", "--model", nothing, "--debug");
    assertTrue(after.err().contains("\tat dev.halter."), after.err());
  }
}
