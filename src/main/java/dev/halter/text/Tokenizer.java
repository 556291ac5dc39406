package dev.halter.text;

import ai.djl.huggingface.tokenizers.jni.CharSpan;
import ai.djl.huggingface.tokenizers.jni.TokenizersLibrary;
import dev.halter.files.BadFileException;
import dev.halter.files.TextFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.OptionalInt;
import java.util.Set;
import java.util.function.LongFunction;
import java.util.stream.IntStream;

/**
 * The tokenizer of a model folder, by its {@code tokenizer.json} and Hugging Face's own library.
 * Nothing is ever downloaded.
 *
 * <p>A prompt that a {@link ChatTemplate} has rendered brings its special tokens and is encoded
 * without adding any; a plain prompt is encoded with them.
 *
 * <p>Several threads may share one tokenizer; it must not be closed while one of them uses it.
 */
public final class Tokenizer implements AutoCloseable {
  private final TokenizersLibrary library;
  private final Path file;
  private final Vocabulary vocabulary;
  private long handle;

  private Tokenizer(TokenizersLibrary library, Path file, Vocabulary vocabulary, long handle) {
    this.library = library;
    this.file = file;
    this.vocabulary = vocabulary;
    this.handle = handle;
  }

  /**
   * Opens the tokenizer of {@code modelDir}.
   *
   * @throws IllegalArgumentException if there is no {@code tokenizer.json}, or no usable one
   */
  public static Tokenizer load(Path modelDir) {
    Path file = modelDir.resolve("tokenizer.json");
    if (!Files.exists(file)) {
      throw new BadFileException(
          file,
          "is missing; tokenizers kept in other files (tokenizer.model, vocab.json) are not"
              + " supported: save them with transformers' save_pretrained, which writes it",
          null);
    }
    String json = TextFile.readUnmarked(file);
    Vocabulary vocabulary = Vocabulary.read(file, json);
    TokenizersLibrary library = NativeTokenizers.library();
    long handle;
    try {
      handle = library.createTokenizerFromString(json);
    } catch (RuntimeException e) {
      throw new BadFileException(file, "is no usable tokenizer: " + e.getMessage(), e);
    }
    // Files saved after training may ask for both; prompts are neither cut nor filled up here.
    library.disableTruncation(handle);
    library.disablePadding(handle);
    return new Tokenizer(library, file, vocabulary, handle);
  }

  /**
   * The tokens of {@code text}.
   *
   * @param addSpecialTokens whether to add what the tokenizer adds around a text, such as the token
   *     that begins it; special tokens written out in {@code text} are recognised either way
   * @throws IllegalArgumentException if {@code text} is no valid Unicode, or the tokenizer has no
   *     token for a part of it
   */
  public int[] encode(String text, boolean addSpecialTokens) {
    return encoding(text, addSpecialTokens, this::tokens);
  }

  /**
   * For each token of {@link #encode}, the part of {@code text} that it stands for: {@code {from,
   * to}} in chars, half-open. A token that was added, or that holds only a part of a character, may
   * have an empty or a shared part.
   */
  public int[][] spans(String text, boolean addSpecialTokens) {
    return encoding(text, addSpecialTokens, encoding -> spans(text, encoding));
  }

  private <T> T encoding(String text, boolean addSpecialTokens, LongFunction<T> reader) {
    checkUnicode(text);
    long tokenizer = handle();
    long encoding;
    try {
      encoding = library.encode(tokenizer, text, addSpecialTokens);
    } catch (RuntimeException e) {
      throw new BadFileException(file, "cannot encode the text: " + e.getMessage(), e);
    }
    try {
      return reader.apply(encoding);
    } finally {
      library.deleteEncoding(encoding);
    }
  }

  private int[] tokens(long encoding) {
    long[] ids = library.getTokenIds(encoding);
    int[] tokens = new int[ids.length];
    for (int i = 0; i < tokens.length; i++) {
      tokens[i] = Math.toIntExact(ids[i]);
    }
    return tokens;
  }

  /** The library counts code points. */
  private int[][] spans(String text, long encoding) {
    CharSpan[] parts = library.getTokenCharSpans(encoding);
    int[][] spans = new int[parts.length][2];
    for (int i = 0; i < spans.length; i++) {
      if (parts[i] != null) {
        spans[i][0] = text.offsetByCodePoints(0, parts[i].getStart());
        spans[i][1] = text.offsetByCodePoints(0, parts[i].getEnd());
      }
    }
    return spans;
  }

  /**
   * The text of {@code tokens}, as transformers' {@code decode}: bytes that are no whole character
   * become U+FFFD, ids that are no token give nothing, and no blanks are cleaned up.
   *
   * @param skipSpecial whether to leave out special tokens
   */
  public String decode(int[] tokens, boolean skipSpecial) {
    return library.decode(handle(), IntStream.of(tokens).asLongStream().toArray(), skipSpecial);
  }

  /**
   * The text that one token stands for, to show it: {@code " dog"} for both "Ġdog" and "▁dog".
   * Bytes that are no whole character show as {@code <0xE2>}, an id that is no token as {@code
   * <unused 7>}, since models may have more output rows than their tokenizer has tokens.
   *
   * @throws IllegalArgumentException if {@code token} is negative
   */
  public String piece(int token) {
    return vocabulary.piece(token);
  }

  /**
   * The bytes that one token stands for, which need not be whole characters; null for an id that is
   * no token.
   */
  public byte[] bytes(int token) {
    return vocabulary.bytes(token);
  }

  /** One more than the highest token id; a model may have more output rows than that. */
  public int vocabularySize() {
    return vocabulary.size();
  }

  /**
   * The token whose {@link #piece} is {@code piece}, else the one that {@code tokenizer.json}
   * spells so, else nothing. Of several, whole characters come before single bytes, then low ids
   * first.
   */
  public OptionalInt idOf(String piece) {
    return vocabulary.idOf(piece);
  }

  /**
   * The tokens that stand for a word: the word as one token, with and without a space before it.
   *
   * @throws IllegalArgumentException if neither is a single token, showing its pieces
   */
  public Set<Integer> tokensOf(String word) {
    Set<Integer> tokens = new LinkedHashSet<>();
    OptionalInt exact = idOf(word);
    exact.ifPresent(tokens::add);
    for (String text : List.of(word, " " + word.strip())) {
      int[] ids = encode(text, false);
      if (ids.length == 1) {
        tokens.add(ids[0]);
      }
    }
    if (tokens.isEmpty()) {
      // Some tokenizers begin every text with a space of their own: another would be a piece.
      int[] bare = encode(word.strip(), false);
      boolean spaced = bare.length > 0 && piece(bare[0]).startsWith(" ");
      StringBuilder pieces = new StringBuilder();
      for (int id : spaced ? bare : encode(" " + word.strip(), false)) {
        pieces.append(pieces.isEmpty() ? "" : " ").append('\'').append(piece(id)).append('\'');
      }
      throw new IllegalArgumentException(
          "'" + word + "' is no single token of this model but " + pieces + ": name one of these");
    }
    return tokens;
  }

  /** Frees the native tokenizer; closing twice does nothing. */
  @Override
  public void close() {
    if (handle != 0) {
      library.deleteTokenizer(handle);
      handle = 0;
    }
  }

  private long handle() {
    if (handle == 0) {
      throw new IllegalStateException("the tokenizer of " + file + " is closed");
    }
    return handle;
  }

  /** The native side would replace more than the broken character. */
  private static void checkUnicode(String text) {
    for (int i = 0; i < text.length(); i++) {
      if (Character.isSurrogate(text.charAt(i))) {
        if (!Character.isSupplementaryCodePoint(text.codePointAt(i))) {
          throw new IllegalArgumentException(
              "the text is no valid Unicode: half a surrogate pair at character " + i);
        }
        i++;
      }
    }
  }
}
