package dev.halter.cli;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.files.PackedFiles;
import dev.halter.generation.LanguageModel;
import dev.halter.model.KvCache;
import dev.halter.weights.ModelConfig;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URL;
import java.nio.file.Path;
import picocli.CommandLine.Option;

/** The options of every command that opens a model. */
public final class ModelOptions {
  private static final int MANY = 256;
  private static final long SMALL_CACHE = 1L << 30;

  @Option(
      names = "--model",
      paramLabel = "DIR",
      description = "Model folder as from the Hugging Face hub (default: the one that ships).")
  public Path model;

  @Option(
      names = "--device",
      paramLabel = "D",
      defaultValue = "auto",
      description = "auto, cpu, cuda or cuda:N, card N from 0 (default: ${DEFAULT-VALUE}).")
  String device;

  @Option(
      names = "--dtype",
      paramLabel = "T",
      defaultValue = "auto",
      description = "Type of the activations: auto, f32 or bf16 (default: ${DEFAULT-VALUE}).")
  public String dtype;

  @Option(
      names = "--threads",
      paramLabel = "N",
      defaultValue = "0",
      description = "CPU threads (default: one for each core).")
  int threads;

  @Option(
      names = "--no-batch-invariant",
      description =
          "Let oneDNN make the CPU's products: the last bits of a result may then depend on its"
              + " batch. Worth it on CPUs with AMX; cuBLAS makes no such promise on CUDA either.")
  boolean anyBatch;

  @Option(
      names = "--no-prefix-cache",
      description = "Read every prompt from its first token, whatever prompts have in common.")
  boolean readsAll;

  @Option(
      names = "--context",
      paramLabel = "N",
      defaultValue = "0",
      description =
          "Longest prompt and answer together, in tokens, up to the model's own (default: that, to"
              + " 8192).")
  int context;

  private boolean saidFallback; // a command may open a device twice

  /** The model folder that was asked for, or the one that ships. */
  public Path folder() {
    if (model != null) {
      return model;
    }
    String models = System.getProperty("halter.models");
    return models == null ? unpackedDemo() : Path.of(models, "demo");
  }

  private static Path unpackedDemo() {
    URL config = ModelOptions.class.getResource("/dev/halter/models/demo/config.json");
    if (config == null) {
      throw new WrongUseException("no model: name a folder with --model DIR");
    }
    try {
      return PackedFiles.folder(config, name -> true);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  public LanguageModel open() {
    return open(0);
  }

  /**
   * Opens the model for many short prompts and much work between them: without --context sequences
   * are of up to 1,024 tokens, so that a GPU's memory is not taken by a cache that nothing fills.
   * As many run at once as make a step worth its launches, where their cache is small, as that of
   * small models is.
   */
  public LanguageModel openForPairs() {
    return openForPairs(folder());
  }

  /** As above, another folder. */
  public LanguageModel openForPairs(Path folder) {
    ModelConfig config = ModelConfig.read(folder);
    if (context == 0) {
      context = Math.min(1024, config.maxPositions());
    }
    long most = KvCache.pagesFor(context) * KvCache.pageBytes(config, DType.F32) * MANY;
    return open(folder, most <= SMALL_CACHE ? MANY : 64);
  }

  /** Opens the model for up to {@code maxBatch} sequences at once; 0 = as suits the device. */
  public LanguageModel open(int maxBatch) {
    return open(folder(), maxBatch);
  }

  private LanguageModel open(Path folder, int maxBatch) {
    if (context < 0 || maxBatch < 0) {
      throw new WrongUseException("--context and --max-batch cannot be negative");
    }
    LanguageModel language =
        LanguageModel.at(folder)
            .device(openDevice())
            .dtype(dtype)
            .context(context)
            .maxBatch(maxBatch)
            .sharePrefixes(!readsAll)
            .open();
    int positions = language.config().maxPositions();
    if (context > positions) {
      System.err.println(
          "halter: --context " + context + " is cut to the " + positions + " that the model has");
    }
    if (!language.device().sharesHostMemory()) {
      System.err.println("memory: " + language.plan());
    }
    return language;
  }

  /** Opens the device alone, for commands that run no model. */
  public Device openDevice() {
    if (threads < 0) {
      throw new WrongUseException("--threads cannot be negative");
    }
    if (!Devices.isName(device)) {
      throw new WrongUseException(
          "--device " + device + ": choose auto, cpu, cuda, or cuda:N for another card than 0");
    }
    OptionValue.requireOneOf("--dtype", dtype, "auto", "f32", "bf16");
    return Devices.open(device, threads, !anyBatch, this::sayFallback);
  }

  private void sayFallback(String line) {
    if (!saidFallback) {
      saidFallback = true;
      System.err.println("halter: " + line);
    }
  }
}
