package dev.halter.concepts;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.files.BadFileException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class StimuliTest {
  @TempDir Path folder;

  @Test
  void aFolderOfPythonListsIsReadAndRepeatsAreOneConcept() throws IOException {
    Files.createDirectory(folder.resolve("concept"));
    Files.writeString(folder.resolve("concept_index.txt"), "['cat', \"year's\", 'cat']\n");
    Files.writeString(folder.resolve("concept/cat.txt"), "['You pet a cat.', 'You see one.',]");
    Files.writeString(folder.resolve("concept/year's.txt"), "[\n 'At the end.'\n]");
    Stimuli stimuli = Stimuli.read(folder);
    assertEquals(List.of("cat", "year's"), stimuli.concepts());
    assertEquals(List.of("You pet a cat.", "You see one."), stimuli.texts(0));
    assertEquals(List.of("At the end."), stimuli.texts(1));
    assertTrue(
        stimuli.notes().getFirst().startsWith("1 of 3 concepts"), stimuli.notes().toString());
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "<|user|> Hi<|end|>",
        "<|im_start|>user",
        "<|start_header_id|>user<|end_header_id|>",
        "[INST] Hi [/INST]",
        "<<SYS>> Hi",
        "<start_of_turn>user",
        "<s> Hi"
      })
  void marksOfChatTemplatesAreSeen(String text) throws IOException {
    Path file = folder.resolve("stimuli.jsonl");
    String first = "{\"concept\": \"a\", \"text\": \"a < b | c > d [INS] <p>\"}\n";
    Files.writeString(file, first);
    assertEquals(Optional.empty(), Stimuli.read(file).markup());
    Files.writeString(file, first + "{\"concept\": \"b\", \"text\": \"" + text + "\"}\n");
    assertTrue(text.contains(Stimuli.read(file).markup().orElseThrow()));
  }

  @Test
  void jsonLinesAreGroupedByConcept() throws IOException {
    Path file = folder.resolve("stimuli.jsonl");
    Files.writeString(
        file,
        """
        {"concept": "a", "text": "one"}
        {"concept": "b", "text": "two"}

        {"concept": "a", "text": "three"}
        """);
    Stimuli stimuli = Stimuli.read(file);
    assertEquals(List.of("a", "b"), stimuli.concepts());
    assertEquals(List.of("one", "three"), stimuli.texts(0));
    assertEquals(List.of("two"), stimuli.texts(1));
  }

  @Test
  void anIndexCannotReachOutsideItsFolderNorNameWhatIsNotThere() throws IOException {
    Files.createDirectory(folder.resolve("concept"));
    Path index = folder.resolve("concept_index.txt");
    Files.writeString(index, "['../secret']");
    String outside = assertThrows(BadFileException.class, () -> Stimuli.read(folder)).getMessage();
    assertTrue(outside.contains("can name no file"), outside);
    Files.writeString(index, "['gone']");
    String gone = assertThrows(BadFileException.class, () -> Stimuli.read(folder)).getMessage();
    assertTrue(gone.contains("gone.txt"), gone);
    Files.writeString(index, "[]");
    assertThrows(BadFileException.class, () -> Stimuli.read(folder));
    Files.delete(index);
    String none = assertThrows(BadFileException.class, () -> Stimuli.read(folder)).getMessage();
    assertTrue(none.contains("concept_index.txt"), none);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "['it\\'s', \"a \\\"b\\\"\"] | it's;a \"b\"",
        "['caf\\xe9', '\\u00e9\\U0001F600'] | café;é😀",
        "['a\\\\n'] | a\\n",
        "[] | ",
        "['a','b' , ] | a;b"
      })
  void pythonStringsKnowTheirEscapes(String literal, String expected) {
    assertEquals(
        expected == null ? List.of() : List.of(expected.split(";")),
        PythonList.read(Path.of("list"), literal));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "[",
        "['a'",
        "['a",
        "['a' 'b']",
        "[a]",
        "['a']x",
        "__import__('os')",
        "[f'a']",
        "['\\q']",
        "['\\x4']",
        "['\\U00110000']",
        "['a\nb']",
        "[['a']]",
        "[1]",
        "(,)",
        "[,]"
      })
  void whatIsNoListOfStringsIsRefused(String literal) {
    assertThrows(BadFileException.class, () -> PythonList.read(Path.of("list"), literal));
  }
}
