package dev.halter.weights;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.files.MappedFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Stream;

/**
 * All tensors of a model. Those of a model folder come from one {@code model.safetensors}, or from
 * the shards that {@code model.safetensors.index.json} lists: everything is mapped, nothing is
 * copied; views are readable until {@link #close()}. Or they are in memory already.
 */
public final class Checkpoint implements AutoCloseable {
  private static final String SINGLE = "model.safetensors";
  private static final String INDEX = "model.safetensors.index.json";
  private static final int MAX_SHARDS = 10_000;

  private final Path source;
  private final Set<Safetensors> files;
  private final Map<String, TensorView> tensors;

  private Checkpoint(Path source, Set<Safetensors> files, Map<String, TensorView> tensors) {
    this.source = source;
    this.files = files;
    this.tensors = Collections.unmodifiableMap(tensors);
  }

  /**
   * Maps the tensors of a model folder.
   *
   * @throws BadFileException if there are none, a shard is missing or damaged, or the index and the
   *     shards disagree
   */
  public static Checkpoint open(Path folder) {
    Set<Safetensors> files = new LinkedHashSet<>();
    try {
      Path single = folder.resolve(SINGLE);
      Path index = folder.resolve(INDEX);
      Map<String, TensorView> tensors = new LinkedHashMap<>();
      if (Files.exists(single)) {
        add(Safetensors.open(single), files, tensors);
        return new Checkpoint(single, files, tensors);
      }
      if (!Files.exists(index)) {
        throw withoutSafetensors(folder);
      }
      openShards(folder, JsonObject.read(index), files, tensors);
      return new Checkpoint(index, files, tensors);
    } catch (RuntimeException | Error e) {
      files.forEach(Safetensors::close);
      throw e;
    }
  }

  /**
   * Tensors that are in memory already, random ones for a benchmark, say. The memory stays the
   * caller's: it has to outlive all use of the checkpoint, and {@link #close()} leaves it alone.
   * Tensors may share memory.
   *
   * @param source what errors call this checkpoint
   * @param tensors by the names that a safetensors file would give them
   * @throws IllegalArgumentException if a tensor lies on the Java heap, where no device reads it
   */
  public static Checkpoint of(String source, Map<String, TensorView> tensors) {
    tensors.forEach(
        (name, tensor) -> {
          if (!tensor.data().isNative()) {
            throw new IllegalArgumentException(
                "tensor \"" + name + "\" lies on the Java heap; weights must be off it");
          }
        });
    return new Checkpoint(Path.of(source), Set.of(), new LinkedHashMap<>(tensors));
  }

  private static void openShards(
      Path folder, JsonObject index, Set<Safetensors> files, Map<String, TensorView> tensors) {
    JsonObject weightMap = index.object("weight_map");
    Map<String, Safetensors> shards = new LinkedHashMap<>();
    for (String name : weightMap.keys()) {
      String shard = weightMap.text(name);
      if (shards.containsKey(shard)) {
        continue;
      }
      if (shards.size() == MAX_SHARDS) {
        throw new BadFileException(index.file(), "names more than " + MAX_SHARDS + " shards");
      }
      // Nothing but a plain name: an index must not reach outside its folder.
      if (!shard.matches("[A-Za-z0-9._-]+\\.safetensors")) {
        throw new BadFileException(
            index.file(), "has a shard \"" + shard + "\", which is no plain *.safetensors name");
      }
      if (!Files.exists(folder.resolve(shard))) {
        throw new BadFileException(
            index.file(), "names shard " + shard + ", which is not in the folder");
      }
      Safetensors opened = Safetensors.open(folder.resolve(shard));
      shards.put(shard, opened);
      add(opened, files, tensors);
    }
    for (String name : weightMap.keys()) {
      if (shards.get(weightMap.text(name)).find(name).isEmpty()) {
        throw new BadFileException(
            index.file(),
            "places tensor \"" + name + "\" in " + weightMap.text(name) + ", which lacks it");
      }
    }
    for (String name : tensors.keySet()) {
      if (!weightMap.has(name)) {
        throw new BadFileException(
            index.file(), "does not list tensor \"" + name + "\" that one of its shards holds");
      }
    }
  }

  private static void add(
      Safetensors opened, Set<Safetensors> files, Map<String, TensorView> tensors) {
    files.add(opened);
    for (String name : opened.names()) {
      if (tensors.putIfAbsent(name, opened.tensor(name)) != null) {
        throw new BadFileException(
            opened.file(), "holds tensor \"" + name + "\", which another shard holds too");
      }
    }
  }

  private static BadFileException withoutSafetensors(Path folder) {
    if (!Files.isDirectory(folder)) {
      return new BadFileException(folder, "no such model folder");
    }
    try (Stream<Path> entries = Files.list(folder)) {
      Optional<String> other =
          entries
              .map(entry -> entry.getFileName().toString())
              .filter(name -> name.matches(".*\\.(bin|pt|pth|gguf|ggml|h5|msgpack|onnx)"))
              .sorted()
              .findFirst();
      return new BadFileException(
          folder,
          other
              .map(
                  name ->
                      "holds "
                          + name
                          + " but no "
                          + SINGLE
                          + "; Halter reads safetensors only: convert the model (transformers:"
                          + " save_pretrained)")
              .orElse("holds neither " + SINGLE + " nor " + INDEX));
    } catch (IOException e) {
      throw MappedFile.cannotRead(folder, e);
    }
  }

  /** Names of all tensors. */
  public Set<String> names() {
    return tensors.keySet();
  }

  public Optional<TensorView> find(String name) {
    return Optional.ofNullable(tensors.get(name));
  }

  /**
   * The tensor of that name.
   *
   * @throws BadFileException if there is none
   */
  public TensorView tensor(String name) {
    return find(name)
        .orElseThrow(() -> new BadFileException(source, "has no tensor \"" + name + "\""));
  }

  /** Bytes of all tensors together. */
  public long byteSize() {
    return tensors.values().stream().mapToLong(tensor -> tensor.data().byteSize()).sum();
  }

  /**
   * Checks that this is a checkpoint of that model: all its tensors, in their shapes and in f32,
   * f16 or bf16, and nothing else, since a tensor that the config does not announce (a bias, say)
   * would be silently left out of the arithmetic.
   *
   * @throws BadFileException naming the first tensor that is missing, superfluous or wrong
   */
  public void require(ModelConfig config) {
    Map<String, long[]> expected = TensorNames.expected(config);
    expected.forEach(this::requireShape);
    for (String name : names()) {
      if (name.equals(TensorNames.HEAD) && config.tieWordEmbeddings()) {
        requireTied();
      } else if (!expected.containsKey(name) && !TensorNames.isIgnored(name)) {
        throw new BadFileException(
            source, "has a tensor \"" + name + "\" that a model of its config.json does not have");
      }
    }
  }

  private void requireShape(String name, long[] shape) {
    TensorView tensor = tensors.get(name);
    if (tensor == null) {
      throw new BadFileException(
          source,
          "has no tensor \""
              + name
              + "\", which its config.json asks for "
              + Arrays.toString(shape));
    }
    if (!tensor.hasShape(shape)) {
      throw new BadFileException(
          source,
          "tensor \""
              + name
              + "\" has shape "
              + Arrays.toString(tensor.shape())
              + ", but its config.json asks for "
              + Arrays.toString(shape));
    }
    if (!tensor.dtype().isWeight()) {
      throw new BadFileException(
          source,
          "tensor \"" + name + "\" is " + tensor.dtype() + "; weights must be F32, F16 or BF16");
    }
  }

  /** Some checkpoints store the tied matrix twice. Stored with other values it is not tied. */
  private void requireTied() {
    TensorView head = tensor(TensorNames.HEAD);
    TensorView embedding = tensor(TensorNames.EMBEDDING);
    if (head.dtype() != embedding.dtype() || head.data().mismatch(embedding.data()) != -1) {
      requireWhole();
      throw new BadFileException(
          source,
          "has a tensor \"%s\" that differs from %s, though its config.json says tie_word_embeddings"
              .formatted(TensorNames.HEAD, TensorNames.EMBEDDING));
    }
  }

  /**
   * Checks that what has been read so far is what was in the files. Whoever reads tensors, or has a
   * device read them, asks before the results are used.
   *
   * @throws BadFileException if a file got shorter
   */
  public void requireWhole() {
    files.forEach(Safetensors::requireWhole);
  }

  /** Unmaps all files: all views of them become unreadable. Memory of others stays as it is. */
  @Override
  public void close() {
    files.forEach(Safetensors::release);
  }
}
