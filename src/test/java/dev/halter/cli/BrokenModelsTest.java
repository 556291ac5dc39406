package dev.halter.cli;

import static dev.halter.cli.CommandLineRun.golden;
import static dev.halter.cli.CommandLineRun.halter;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Broken model folders get one line that names the file and what is wrong, and end at once. */
@Timeout(60)
class BrokenModelsTest {
  @TempDir Path folder;

  private Path config;
  private Path weights;

  @BeforeEach
  void copyAModel() throws IOException {
    for (File file : golden("llama3").resolve("model").toFile().listFiles()) {
      Files.copy(file.toPath(), folder.resolve(file.getName()));
    }
    config = folder.resolve("config.json");
    weights = folder.resolve("model.safetensors");
    assertEquals(0, halter("info", "--model", folder).code(), "whole as it is");
  }

  /** Every command that opens a model fails in the same way. */
  private void refused(Path named, String... what) throws IOException {
    Path in = folder.resolveSibling(folder.getFileName() + ".jsonl");
    Path out = folder.resolveSibling(folder.getFileName() + ".out");
    Files.writeString(in, "{\"id\":1,\"tokens\":[1]}\n");
    try {
      for (Object[] command :
          new Object[][] {
            {"info", "--model", folder, "--json"},
            {"batch", "--model", folder, "--in", in, "--out", out},
            {"map", "--model", folder, "--out", out}
          }) {
        String error = halter(command).error(1);
        assertTrue(error.startsWith("halter: " + named), error);
        for (String word : what) {
          assertTrue(error.contains(word), word + " in " + error);
        }
      }
    } finally {
      Files.delete(in);
      Files.deleteIfExists(out);
    }
  }

  @Test
  void truncatedWeights() throws IOException {
    byte[] bytes = Files.readAllBytes(weights);
    Files.write(weights, Arrays.copyOf(bytes, bytes.length / 2));
    refused(weights);
    Files.write(weights, Arrays.copyOf(bytes, 5));
    refused(weights);
    Files.write(weights, new byte[0]);
    refused(weights);
  }

  @Test
  void aHeaderThatLiesAboutItsLength() throws IOException {
    byte[] bytes = Files.readAllBytes(weights);
    for (long length : new long[] {Long.MAX_VALUE, -1, 1L << 40, bytes.length, 0}) {
      ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putLong(length);
      Files.write(weights, bytes);
      refused(weights);
    }
  }

  @Test
  void aHeaderThatLiesAboutAShape() throws IOException {
    // As many bytes as before, so that nothing else moves.
    replaceInWeights("\"shape\":[48]", "\"shape\":[99]");
    refused(weights);
  }

  @Test
  void aMissingTensor() throws IOException {
    replaceInWeights("model.layers.1.mlp.down_proj.weight", "model.layers.1.mlp.down_prog.weight");
    refused(folder, "model.layers.1.mlp.down_proj.weight");
  }

  @Test
  void missingFiles() throws IOException {
    Files.move(weights, folder.resolve("model.gguf"));
    refused(folder, "safetensors");
    Files.delete(config);
    refused(config, "no such file");
    Files.move(folder.resolve("model.gguf"), weights);
    refused(config, "no such file");
  }

  @Test
  void configsThatDoNotFitOrAreNotSupported() throws IOException {
    String whole = Files.readString(config);
    config(whole.replace("\"hidden_size\": 48", "\"hidden_size\": 96"));
    refused(folder);
    config(whole.replace("\"hidden_size\": 48", "\"hidden_size\": -48"));
    refused(config, "hidden_size");
    config(whole.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2000000000"));
    refused(folder);
    config(whole.replace("\"vocab_size\": 128", "\"vocab_size\": 2147483647"));
    refused(folder);
    config(whole.replace("\"num_attention_heads\": 6", "\"num_attention_heads\": 0"));
    refused(config, "num_attention_heads");
    config(whole.replace("LlamaForCausalLM", "GPT2LMHeadModel").replace("\"llama\"", "\"gpt2\""));
    refused(config, "gpt2");
    config(whole.substring(0, whole.length() / 2));
    refused(config, "JSON");
    config("[]");
    refused(config, "JSON");
  }

  @Test
  void whatIsNoFolder() throws IOException {
    for (Path path : new Path[] {weights, folder.resolve("nothing"), Path.of("")}) {
      halter("info", "--model", path).error(1);
    }
  }

  @Test
  void whatIsNoFolderButAKnownThingIsToldWhatToDo() throws IOException {
    Path gguf = Files.writeString(folder.resolve("llama.gguf"), "GGUF");
    String error = halter("info", "--model", gguf).error(1);
    assertTrue(error.contains("GGUF models are not read: download"), error);
    error = halter("info", "--model", "some-people/Some-Llama-1B").error(1);
    assertTrue(error.contains("hf download some-people/Some-Llama-1B"), error);
  }

  @Test
  void aBrokenTokenizerIsAnErrorOfTheFolder() throws IOException {
    Files.writeString(folder.resolve("tokenizer.json"), "{\"model\":");
    Path in = folder.resolve("in.jsonl");
    Files.writeString(in, "{\"id\":1,\"tokens\":[1]}\n");
    Path out = folder.resolve("out.jsonl");
    String error = halter("batch", "--model", folder, "--in", in, "--out", out).error(1);
    assertTrue(error.contains("tokenizer.json"), error);
    assertTrue(halter("tokens", "--model", folder, "--prompt", "a").error(1).contains("tokenizer"));
    assertEquals(0, Files.size(out), "nothing was answered");
  }

  private void config(String text) throws IOException {
    Files.writeString(config, text);
  }

  private void replaceInWeights(String text, String other) throws IOException {
    String bytes = Files.readString(weights, StandardCharsets.ISO_8859_1);
    assertTrue(bytes.contains(text), "the test must change something");
    Files.writeString(
        weights,
        bytes.replaceFirst(java.util.regex.Pattern.quote(text), other),
        StandardCharsets.ISO_8859_1);
  }
}
