package dev.halter.heads;

import com.code_intelligence.jazzer.junit.FuzzTest;
import dev.halter.evaluation.Arithmetic;
import dev.halter.files.BadFileException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.function.Consumer;

/**
 * Any bytes make a task or a {@link BadFileException}, never another exception. {@code mvn test}
 * runs the inputs kept in the folders of this class's resources.
 */
class HostileTaskFilesFuzzTest {
  @FuzzTest(maxDuration = "30s")
  void csvInput(byte[] bytes) throws IOException {
    read(bytes, Behaviour::readXsTest);
  }

  @FuzzTest(maxDuration = "30s")
  void trustLlmInput(byte[] bytes) throws IOException {
    read(bytes, Behaviour::readTrustLlm);
  }

  @FuzzTest(maxDuration = "30s")
  void templatesInput(byte[] bytes) throws IOException {
    read(
        bytes,
        file -> {
          Arithmetic arithmetic = Arithmetic.read(file);
          arithmetic.examples(List.copyOf(arithmetic.operators()), 1, 3, 0);
        });
  }

  private static void read(byte[] bytes, Consumer<Path> reader) throws IOException {
    Path file = Files.createTempFile("task", "");
    try {
      Files.write(file, bytes);
      reader.accept(file);
    } catch (BadFileException expected) {
      // a clear refusal is as good as a value
    } finally {
      Files.delete(file);
    }
  }
}
