package dev.halter.evaluation;

import com.code_intelligence.jazzer.junit.FuzzTest;
import dev.halter.files.BadFileException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Any bytes make tasks or a {@link BadFileException}, never another exception. {@code mvn test}
 * runs the inputs kept in the folders of this class's resources.
 */
class TaskFileFuzzTest {
  @FuzzTest(maxDuration = "30s")
  void linesInput(byte[] bytes) throws IOException {
    read(bytes, ".jsonl");
  }

  @FuzzTest(maxDuration = "30s")
  void listInput(byte[] bytes) throws IOException {
    read(bytes, ".json");
  }

  @FuzzTest(maxDuration = "30s")
  void csvInput(byte[] bytes) throws IOException {
    read(bytes, ".csv");
  }

  @FuzzTest(maxDuration = "30s")
  void tsvInput(byte[] bytes) throws IOException {
    read(bytes, ".tsv");
  }

  private static void read(byte[] bytes, String ending) throws IOException {
    Path file = Files.createTempFile("task", ending);
    try {
      Files.write(file, bytes);
      TaskFile.read(file, TaskFile.REFUSAL);
    } catch (BadFileException expected) {
      // a clear refusal is as good as a value
    } finally {
      Files.delete(file);
    }
  }
}
