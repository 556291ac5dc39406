package dev.halter.spark;

import dev.halter.device.Devices;

/**
 * Work that executors do with a model: which, and how they open it. Each method returns this.
 *
 * @param <T> the kind of work
 */
public abstract sealed class ModelJob<T extends ModelJob<T>>
    permits HalterBatch, HalterCapture, HalterMap, HalterPatching {
  private String folder;
  private String device = "auto";
  private String dtype = "auto";
  private int threads;
  private int context;
  private int maxBatch;

  ModelJob() {}

  abstract T self();

  /**
   * How the model is opened.
   *
   * @throws IllegalArgumentException if it is not named
   */
  final ModelSettings settings() {
    if (folder == null) {
      throw new IllegalArgumentException("no model: name its folder with model(\"…\")");
    }
    return new ModelSettings(folder, device, dtype, threads, context, maxBatch);
  }

  /**
   * The model folder as every executor sees it: on shared storage, in the image, or, not absolute,
   * among what {@code --archives} brings.
   */
  public T model(String path) {
    folder = path;
    return self();
  }

  /**
   * {@code "auto"}, the default, is the GPU whose address Spark gives the task, and the CPU where
   * it gives none; {@code "cuda"} is the first card where it gives none; {@code "cpu"} is the CPU.
   * Whatever it is, each address has an engine of its own.
   *
   * @throws IllegalArgumentException for a name that is no device's
   */
  public T device(String name) {
    if (!Devices.isName(name)) {
      throw new IllegalArgumentException(
          "no device '" + name + "': choose auto, cpu, cuda or cuda:N");
    }
    device = name;
    return self();
  }

  /** Type of the activations: {@code "auto"} (the default), {@code "f32"} or {@code "bf16"}. */
  public T dtype(String name) {
    dtype = name;
    return self();
  }

  /** Threads of the CPU; 0, the default, is one for each core of the executor. */
  public T threads(int count) {
    threads = count;
    return self();
  }

  /** Longest prompt and answer together, in tokens; 0 = the model's own, at most 8,192. */
  public T context(int tokens) {
    context = tokens;
    return self();
  }

  /** Most sequences that run at once on an engine; 0 = as suits the device. */
  public T maxBatch(int sequences) {
    maxBatch = sequences;
    return self();
  }
}
