package dev.halter.tuning;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.patching.Pair;
import dev.halter.weights.Fingerprint;
import dev.halter.weights.ModelConfig;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;

/**
 * Texts to learn from, one a line, in the ways in which such data comes: {@code {"prompt_tokens",
 * "completion_tokens"}}, {@code {"prompt", "completion"}}, {@code {"messages"}} with an answer at
 * the end, or Alpaca's {@code {"instruction", "input", "output"}}, which is a user's turn and the
 * answer to it.
 *
 * <p>A plain text begins as the tokenizer begins one and ends with the model's end token (as in
 * TRL); a conversation is what the chat template makes of it; tokens are taken as they are.
 */
public final class TuningData {
  private final List<Example> examples;

  TuningData(List<Example> examples) {
    this.examples = examples;
  }

  /**
   * Reads a file.
   *
   * @param model folder, for its tokenizer and chat template
   * @param maxTokens most tokens of a prompt and its completion together
   * @throws BadFileException naming the first line that cannot be used
   */
  public static TuningData read(Path file, Path model, ModelConfig config, int maxTokens) {
    try (ExampleReader reader = new ExampleReader(model, config, maxTokens)) {
      List<Example> examples = JsonObject.readLines(file).stream().map(reader::read).toList();
      if (examples.isEmpty()) {
        throw new BadFileException(file, "holds no line to learn from");
      }
      return new TuningData(examples);
    }
  }

  /** The answers of pairs, each after its reference. */
  public static TuningData of(List<Pair> pairs) {
    List<Example> examples = new ArrayList<>();
    for (Pair pair : pairs) {
      int prompt = pair.reference().length;
      int[] tokens = Arrays.copyOf(pair.reference(), prompt + 1);
      tokens[prompt] = pair.answer();
      examples.add(new Example(tokens, prompt));
    }
    return new TuningData(examples);
  }

  /** How many there are. */
  public int size() {
    return examples.size();
  }

  /** SHA-256 of all tokens, and of where completions begin, in hexadecimal. */
  public String digest() {
    MessageDigest hash = Fingerprint.sha256();
    for (Example example : examples) {
      ByteBuffer bytes = ByteBuffer.allocate(4 * (example.tokens().length + 2));
      bytes.putInt(example.prompt()).putInt(example.tokens().length);
      bytes.asIntBuffer().put(example.tokens());
      hash.update(bytes.array());
    }
    return HexFormat.of().formatHex(hash.digest());
  }

  List<Example> examples() {
    return examples;
  }
}
