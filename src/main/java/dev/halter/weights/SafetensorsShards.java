package dev.halter.weights;

import dev.halter.files.BadFileException;
import dev.halter.files.Shard;
import dev.halter.files.ShardFile;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * Safetensors files that are shards of one: each says which in its metadata. Joined they are what
 * one run without shards writes, to the byte.
 */
public final class SafetensorsShards implements AutoCloseable {
  private final List<Safetensors> shards = new ArrayList<>();
  private final Map<String, String> metadata;

  /**
   * The metadata of a shard: that of the whole file, and which shard it is.
   *
   * @param job what the whole is, see {@link ShardFile}
   */
  public static Map<String, String> metadata(Map<String, String> whole, Shard shard, String job) {
    Map<String, String> metadata = new TreeMap<>(whole);
    metadata.put(Shard.KEY, shard.toString());
    metadata.put(ShardFile.JOB, job);
    return metadata;
  }

  /**
   * Opens all shards of a file, in any order.
   *
   * @throws BadFileException if one is no shard, a shard of another file, or there twice
   * @throws IllegalArgumentException if one is missing
   */
  public SafetensorsShards(List<Path> files) {
    try {
      files.forEach(file -> shards.add(Safetensors.open(file)));
      List<Path> order =
          ShardFile.inOrder(
              shards.stream()
                  .map(
                      shard ->
                          ShardFile.of(
                              shard.file(),
                              shard.metadata().get(Shard.KEY),
                              shard.metadata().get(ShardFile.JOB)))
                  .toList());
      shards.sort((a, b) -> Integer.compare(order.indexOf(a.file()), order.indexOf(b.file())));
      metadata = whole(shards.getFirst());
      for (Safetensors shard : shards) {
        if (!whole(shard).equals(metadata)) {
          throw new BadFileException(
              shard.file(), "has other metadata than " + shards.getFirst().file());
        }
      }
    } catch (RuntimeException | Error e) {
      close();
      throw e;
    }
  }

  private static Map<String, String> whole(Safetensors shard) {
    Map<String, String> metadata = new TreeMap<>(shard.metadata());
    metadata.remove(Shard.KEY);
    metadata.remove(ShardFile.JOB);
    return metadata;
  }

  /** The metadata of the whole file. */
  public Map<String, String> metadata() {
    return Collections.unmodifiableMap(metadata);
  }

  /**
   * Writes a file of all tensors of all shards, one after the other.
   *
   * @return how many tensors it has
   * @throws BadFileException if two have one of the same name
   */
  public int writeUnion(Path out) {
    List<TensorSpec> specs = new ArrayList<>();
    Map<String, Path> holders = new LinkedHashMap<>();
    for (Safetensors shard : shards) {
      for (String name : shard.names()) {
        Path other = holders.put(name, shard.file());
        if (other != null) {
          throw new BadFileException(
              shard.file(), "has the tensor \"" + name + "\", as has " + other);
        }
        TensorView tensor = shard.tensor(name);
        specs.add(new TensorSpec(name, tensor.dtype(), tensor.shape()));
      }
    }
    try (SafetensorsWriter writer = SafetensorsWriter.create(out, metadata, specs)) {
      for (Safetensors shard : shards) {
        for (String name : shard.names()) {
          writer.write(name, shard.tensor(name).data());
        }
        shard.requireWhole();
      }
    }
    return specs.size();
  }

  /**
   * Writes a file of the tensors that every shard has, joined along their first axis.
   *
   * @return how many tensors it has
   * @throws BadFileException if one has others, or of other types or sizes along the other axes
   */
  public int writeJoined(Path out) {
    Safetensors first = shards.getFirst();
    List<TensorSpec> specs = new ArrayList<>();
    for (String name : first.names()) {
      long[] shape = first.tensor(name).shape();
      shape[0] = 0;
      for (Safetensors shard : shards) {
        TensorView tensor = shard.tensor(name);
        long[] rest = tensor.shape();
        rest[0] = shape[0];
        if (tensor.dtype() != first.tensor(name).dtype()
            || shard.names().size() != first.names().size()
            || !Arrays.equals(rest, shape)) {
          throw new BadFileException(
              shard.file(), "has other tensors than " + first.file() + ": see \"" + name + "\"");
        }
        shape[0] += tensor.size(0);
      }
      specs.add(new TensorSpec(name, first.tensor(name).dtype(), shape));
    }
    try (SafetensorsWriter writer = SafetensorsWriter.create(out, metadata, specs)) {
      for (TensorSpec spec : specs) {
        for (Safetensors shard : shards) {
          writer.write(spec.name(), shard.tensor(spec.name()).data());
        }
      }
      shards.forEach(Safetensors::requireWhole);
    }
    return specs.size();
  }

  @Override
  public void close() {
    shards.forEach(Safetensors::close);
  }
}
