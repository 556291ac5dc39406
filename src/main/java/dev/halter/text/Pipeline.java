package dev.halter.text;

import dev.halter.files.BadFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Checks the parts of a {@code tokenizer.json} before the native library sees them. The library
 * trusts its files: on some that contradict themselves it ends the whole process. What the
 * tokenizers of the Llama family are made of passes; anything else is refused by name.
 */
final class Pipeline {
  private static final Map<String, Set<String>> SUPPORTED =
      Map.of(
          "normalizer",
          Set.of("NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace", "Strip", "Lowercase"),
          "pre_tokenizer",
          Set.of("ByteLevel", "Metaspace", "Split", "Digits", "Punctuation", "Whitespace"),
          "post_processor",
          Set.of("ByteLevel", "TemplateProcessing"),
          "decoder",
          Set.of("ByteLevel", "ByteFallback", "Fuse", "Metaspace", "Replace", "Strip"));

  /** Where a Sequence of each keeps its parts. */
  private static final Map<String, String> PARTS =
      Map.of(
          "normalizer", "normalizers",
          "pre_tokenizer", "pretokenizers",
          "post_processor", "processors",
          "decoder", "decoders");

  private Pipeline() {}

  /** Checks the value of {@code field}; null stands for a tokenizer without that part. */
  static void check(Path file, String field, Object part) {
    if (part == null) {
      return;
    }
    Object type = part instanceof Map<?, ?> fields ? fields.get("type") : null;
    if ("Sequence".equals(type)
        && ((Map<?, ?>) part).get(PARTS.get(field)) instanceof List<?> all) {
      all.forEach(one -> check(file, field, one));
      return;
    }
    if (!(type instanceof String name) || !SUPPORTED.get(field).contains(name)) {
      throw new BadFileException(file, "has an unsupported " + field + ": " + type);
    }
    Map<?, ?> fields = (Map<?, ?>) part;
    if (fields.get("pattern") instanceof Map<?, ?> pattern
        && pattern.get("Regex") instanceof String regex) {
      checkRegex(file, regex);
    }
    if (name.equals("TemplateProcessing")) {
      checkTemplate(file, fields);
    }
  }

  /** Checks a field of the model other than its tokens. */
  static void checkModel(Path file, String field, Object value) {
    boolean fine =
        switch (field) {
          case "type" -> "BPE".equals(value);
          // Dropping merges at random is for training; the affixes belong to other families.
          case "dropout" -> value == null || value instanceof Number n && n.doubleValue() == 0;
          case "continuing_subword_prefix", "end_of_word_suffix" ->
              value == null || "".equals(value);
          default -> true;
        };
    if (!fine) {
      throw new BadFileException(file, "has an unsupported model: " + field + " is " + value);
    }
  }

  /** What goes around a single text: the text itself and special tokens that are declared. */
  private static void checkTemplate(Path file, Map<?, ?> fields) {
    boolean fine = fields.get("single") instanceof List<?>;
    if (fine) {
      for (Object piece : (List<?>) fields.get("single")) {
        fine &= isText(piece) || isDeclared(piece, fields.get("special_tokens"));
      }
    }
    if (!fine) {
      throw new BadFileException(file, "has a post_processor that contradicts itself");
    }
  }

  private static boolean isText(Object piece) {
    return piece instanceof Map<?, ?> map
        && map.get("Sequence") instanceof Map<?, ?> sequence
        && "A".equals(sequence.get("id"));
  }

  private static boolean isDeclared(Object piece, Object specialTokens) {
    return piece instanceof Map<?, ?> map
        && map.get("SpecialToken") instanceof Map<?, ?> named
        && specialTokens instanceof Map<?, ?> declared
        && declared.get(named.get("id")) instanceof Map<?, ?> token
        && token.get("ids") instanceof List<?> ids
        && token.get("tokens") instanceof List<?> tokens
        && ids.size() == tokens.size()
        && ids.stream().allMatch(id -> id instanceof Integer i && i >= 0);
  }

  /**
   * Refuses a group repeated without bound, such as {@code (a+)+}, with which a few characters can
   * keep the matcher busy for ever; no tokenizer of the family has one.
   */
  private static void checkRegex(Path file, String regex) {
    boolean inClass = false;
    for (int i = 0; i < regex.length(); i++) {
      char c = regex.charAt(i);
      if (c == '\\') {
        i++;
      } else if (c == '[' || c == ']') {
        inClass = c == '[';
      } else if (c == ')'
          && !inClass
          && i + 1 < regex.length()
          && "*+{".indexOf(regex.charAt(i + 1)) >= 0) {
        throw new BadFileException(
            file, "has an unsupported repeated group in the pattern " + regex);
      }
    }
  }
}
