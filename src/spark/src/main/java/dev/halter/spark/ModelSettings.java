package dev.halter.spark;

import dev.halter.generation.LanguageModel;
import java.io.Serializable;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.spark.SparkEnv;
import org.apache.spark.SparkFiles;

/**
 * How executors open a model.
 *
 * @param folder of the model, as executors see it
 * @param threads of the CPU; 0 for as many as the executor has cores
 */
record ModelSettings(
    String folder, String device, String dtype, int threads, int context, int maxBatch)
    implements Serializable {

  /**
   * A folder as this machine sees it: one that is not absolute is first looked for among the files
   * that Spark has brought ({@code --files}, {@code --archives}).
   */
  static Path local(String folder) {
    Path path = Path.of(folder);
    if (!path.isAbsolute() && SparkEnv.get() != null) {
      Path brought = Path.of(SparkFiles.getRootDirectory()).resolve(path);
      if (Files.exists(brought)) {
        return brought;
      }
    }
    return path;
  }

  LanguageModel.Opening opening(Place place) {
    return LanguageModel.at(local(folder))
        .device(place.device())
        .dtype(dtype)
        .threads(threadsHere())
        .context(context)
        .maxBatch(maxBatch);
  }

  /** Cores that are this executor's, unless the settings say; 0 where nobody does. */
  int threadsHere() {
    return threads != 0 ? threads : SparkEnv.get().conf().getInt("spark.executor.cores", 0);
  }
}
