package dev.halter.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Expectations made with Hugging Face's tokenizers by tools/goldens/tokenizers_small.py. */
class TokenizerTest {
  @ParameterizedTest
  @ValueSource(strings = {"byte-level", "byte-fallback"})
  void encodesAndDecodesAsHuggingFaceDoes(String kind) throws Exception {
    try (Tokenizer tokenizer = Tokenizer.load(folder(kind))) {
      for (JsonNode c : expected(kind).get("cases")) {
        String text = c.get("text").asText();
        int[] tokens = tokenizer.encode(text, c.get("special").asBoolean());
        assertArrayEquals(ints(c.get("ids")), tokens, text);
        assertEquals(c.get("decoded").asText(), tokenizer.decode(tokens, false));
        assertEquals(c.get("without_special").asText(), tokenizer.decode(tokens, true));
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"byte-level", "byte-fallback"})
  void piecesAreWhatATokenAddsToAText(String kind) throws Exception {
    try (Tokenizer tokenizer = Tokenizer.load(folder(kind))) {
      JsonNode pieces = expected(kind).get("pieces");
      assertEquals(expected(kind).get("vocabulary").asInt(), tokenizer.vocabularySize());
      for (int token = 0; token < tokenizer.vocabularySize(); token++) {
        JsonNode piece = pieces.get(Integer.toString(token));
        if (piece == null) {
          assertTrue(tokenizer.piece(token).matches("(?s).*<0x[89A-F][0-9A-F]>.*"));
        } else {
          assertEquals(piece.asText(), tokenizer.piece(token));
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"byte-level", "byte-fallback"})
  void everyPieceLeadsBackToATokenOfThatPiece(String kind) throws Exception {
    try (Tokenizer tokenizer = Tokenizer.load(folder(kind))) {
      for (int token = 0; token < tokenizer.vocabularySize(); token++) {
        String piece = tokenizer.piece(token);
        assertEquals(piece, tokenizer.piece(tokenizer.idOf(piece).orElseThrow()));
      }
      assertTrue(tokenizer.idOf("no such token").isEmpty());
    }
  }

  @Test
  void aPieceMayAlsoBeNamedAsTheFileSpellsIt() throws Exception {
    try (Tokenizer bytes = Tokenizer.load(folder("byte-level"));
        Tokenizer marks = Tokenizer.load(folder("byte-fallback"))) {
      assertEquals(bytes.idOf(" llama"), bytes.idOf("Ġllama"));
      assertEquals(" llama", bytes.piece(bytes.idOf("Ġllama").orElseThrow()));
      assertEquals(" llama", marks.piece(marks.idOf("▁llama").orElseThrow()));
    }
  }

  @Test
  void wholeCharactersComeBeforeTheTokensOfSingleBytes() throws Exception {
    try (Tokenizer tokenizer = Tokenizer.load(folder("byte-fallback"))) {
      int ofByte = tokenizer.idOf("<0x61>").orElseThrow();
      int ofCharacter = tokenizer.idOf("a").orElseThrow();
      assertEquals("a", tokenizer.piece(ofByte));
      assertNotEquals(ofByte, ofCharacter);
    }
  }

  @Test
  void idsThatAreNoTokenShowAsUnused() throws Exception {
    try (Tokenizer tokenizer = Tokenizer.load(folder("byte-level"))) {
      assertEquals("<unused 70000>", tokenizer.piece(70_000));
      assertThrows(IllegalArgumentException.class, () -> tokenizer.piece(-1));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"byte-level", "byte-fallback"})
  void streamedTextIsTheTextOfAllTokens(String kind) throws Exception {
    try (Tokenizer tokenizer = Tokenizer.load(folder(kind))) {
      for (JsonNode c : expected(kind).get("cases")) {
        int[] tokens = ints(c.get("ids"));
        for (boolean skipSpecial : new boolean[] {false, true}) {
          StringBuilder streamed = new StringBuilder();
          StreamingDecoder decoder = new StreamingDecoder(tokenizer, skipSpecial);
          for (int token : tokens) {
            String text = decoder.next(token);
            assertFalse(text.endsWith("\uFFFD"), "half a character was shown");
            streamed.append(text);
          }
          streamed.append(decoder.finish());
          assertEquals(tokenizer.decode(tokens, skipSpecial), streamed.toString());
        }
      }
    }
  }

  @Test
  void streamedTextOfAnyByteLevelTokensIsTheTextOfAllTokens() throws Exception {
    try (Tokenizer tokenizer = Tokenizer.load(folder("byte-level"))) {
      Random random = new Random(7);
      for (int round = 0; round < 200; round++) {
        int[] tokens = random.ints(30, 0, tokenizer.vocabularySize()).toArray();
        StreamingDecoder decoder = new StreamingDecoder(tokenizer, true);
        StringBuilder streamed = new StringBuilder();
        IntStream.of(tokens).forEach(token -> streamed.append(decoder.next(token)));
        streamed.append(decoder.finish());
        assertEquals(tokenizer.decode(tokens, true), streamed.toString());
      }
    }
  }

  @Test
  void aCharacterOverSeveralTokensAppearsWithItsLastToken() throws Exception {
    try (Tokenizer tokenizer = Tokenizer.load(folder("byte-fallback"))) {
      int[] tokens = tokenizer.encode("🦙a", false);
      StreamingDecoder decoder = new StreamingDecoder(tokenizer, false);
      String[] shown = IntStream.of(tokens).mapToObj(decoder::next).toArray(String[]::new);
      assertArrayEquals(new String[] {"", "", "", "", "🦙", "a"}, shown);
      assertEquals("", decoder.finish());
    }
  }

  @Test
  void aCharacterThatStaysIncompleteIsShownAtTheEnd() throws Exception {
    try (Tokenizer tokenizer = Tokenizer.load(folder("byte-fallback"))) {
      int[] tokens = tokenizer.encode("🦙", false);
      StreamingDecoder decoder = new StreamingDecoder(tokenizer, false);
      assertEquals("", decoder.next(tokens[0]) + decoder.next(tokens[1]));
      assertEquals("\uFFFD", decoder.finish());
    }
  }

  @Test
  void brokenUnicodeIsRefused() throws Exception {
    try (Tokenizer tokenizer = Tokenizer.load(folder("byte-level"))) {
      for (String broken : new String[] {"a\ud83e", "\udd99", "\ud83e\ud83e\udd99"}) {
        assertThrows(IllegalArgumentException.class, () -> tokenizer.encode(broken, false));
      }
    }
  }

  @Test
  void aFolderWithoutTokenizerIsNamed(@TempDir Path empty) {
    String message =
        assertThrows(IllegalArgumentException.class, () -> Tokenizer.load(empty)).getMessage();
    assertTrue(message.contains(empty.resolve("tokenizer.json").toString()), message);
    assertTrue(message.contains("missing"), message);
  }

  @Test
  void brokenFilesAreRefusedByName(@TempDir Path folder) throws IOException {
    Path file = folder.resolve("tokenizer.json");
    for (String broken :
        List.of("", "[]", "{", "{\"version\":\"1.0\"}", "{\"model\":{\"vocab\":[1]}}")) {
      Files.writeString(file, broken);
      String message =
          assertThrows(IllegalArgumentException.class, () -> Tokenizer.load(folder)).getMessage();
      assertTrue(message.startsWith(file.toString()), message);
      assertFalse(message.contains("\n"), message);
    }
    Files.write(file, new byte[] {'{', (byte) 0xff, '}'});
    assertThrows(IllegalArgumentException.class, () -> Tokenizer.load(folder));
  }

  /** On several of these the native library would end the process. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '¦',
      value = {
        "\"!\":0 ¦ \"!\":2000000000 ¦ 2000000000",
        "\"!\":0 ¦ \"!\":-1 ¦ -1",
        "\"type\":\"BPE\" ¦ \"type\":\"Unigram\" ¦ Unigram",
        "\"dropout\":null ¦ \"dropout\":0.5 ¦ dropout",
        "subword_prefix\":null ¦ subword_prefix\":\"##\" ¦ continuing_subword_prefix",
        "word_suffix\":null ¦ word_suffix\":\"</w>\" ¦ end_of_word_suffix",
        "\"id\":\"A\" ¦ \"id\":\"B\" ¦ post_processor",
        "\"ids\":[400] ¦ \"ids\":[] ¦ post_processor",
        "\"ids\":[400] ¦ \"ids\":[4000000000] ¦ post_processor",
        "\"type\":\"Split\" ¦ \"type\":\"BertPreTokenizer\" ¦ BertPreTokenizer",
        "\"normalizer\":null ¦ \"normalizer\":{\"type\":\"Precompiled\"} ¦ Precompiled",
        "{\"Regex\":\" ¦ {\"Regex\":\"(a+)+b| ¦ repeated group",
      })
  void whatTheNativeLibraryWouldTrustIsCheckedFirst(
      String usual, String hostile, String named, @TempDir Path folder) throws Exception {
    String json = Files.readString(folder("byte-level").resolve("tokenizer.json"));
    assertTrue(json.contains(usual), usual);
    Files.writeString(folder.resolve("tokenizer.json"), json.replace(usual, hostile));
    String message =
        assertThrows(IllegalArgumentException.class, () -> Tokenizer.load(folder)).getMessage();
    assertTrue(message.contains(named), message);
  }

  @Test
  void aClosedTokenizerSaysSo() throws Exception {
    Tokenizer tokenizer = Tokenizer.load(folder("byte-level"));
    tokenizer.close();
    tokenizer.close();
    assertThrows(IllegalStateException.class, () -> tokenizer.encode("a", false));
  }

  private static Path folder(String kind) throws URISyntaxException {
    return Path.of(TokenizerTest.class.getResource("/text/tokenizers/" + kind).toURI());
  }

  private static JsonNode expected(String kind) throws IOException, URISyntaxException {
    return new ObjectMapper()
        .readTree(Files.readString(folder(kind).resolve("expected.json"), StandardCharsets.UTF_8));
  }

  private static int[] ints(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false).mapToInt(JsonNode::asInt).toArray();
  }

  /** A tokenizer that begins each text with a space of its own is given none to split off. */
  @ParameterizedTest
  @ValueSource(strings = {"byte-level", "byte-fallback"})
  void aWordThatIsNoTokenIsShownInItsOwnPieces(String kind) throws Exception {
    try (Tokenizer tokenizer = Tokenizer.load(folder(kind))) {
      for (String word : new String[] {"qzxjw", " qzxjw"}) {
        String error =
            assertThrows(IllegalArgumentException.class, () -> tokenizer.tokensOf(word))
                .getMessage();
        String pieces = error.replaceFirst(".* but ", "").replaceFirst(": name.*", "");
        assertFalse(pieces.startsWith("' ' ' "), error);
        assertEquals(" qzxjw", pieces.replaceAll("' '", "").replace("'", ""), error);
      }
    }
  }
}
