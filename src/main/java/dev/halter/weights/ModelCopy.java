package dev.halter.weights;

import dev.halter.device.DType;
import dev.halter.files.Destination;
import dev.halter.files.Successor;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * A copy of a model folder in which single vectors of weights are changed. Everything else stays as
 * it is to the byte: config, tokenizer, dtypes, shards. Weights in other formats than safetensors
 * are not copied, since they would stay unchanged.
 *
 * <p>The copy grows beside its place and takes it at {@link #finish()}; closed before that, it
 * leaves nothing behind.
 */
public final class ModelCopy implements AutoCloseable {
  private static final Pattern OTHER_WEIGHTS =
      Pattern.compile(".*\\.(bin|pt|pth|gguf|ggml|h5|msgpack|onnx|part|tmp)");

  private final Path target;
  private final Successor growing;
  private final List<FileChannel> channels = new ArrayList<>();
  private final Map<String, Place> places = new HashMap<>();

  /** Where a tensor's elements lie. */
  private record Place(FileChannel channel, long offset, DType dtype, long elements) {}

  private ModelCopy(Path target, Successor growing) {
    this.target = target;
    this.growing = growing;
  }

  /**
   * Copies a model folder.
   *
   * @throws IllegalArgumentException if {@code target} exists
   * @throws UncheckedIOException if it cannot be written
   */
  public static ModelCopy of(Path folder, Path target) {
    if (Files.exists(target)) {
      throw new IllegalArgumentException(target + " exists already: name a folder that does not");
    }
    ModelCopy copy = null;
    try {
      copy = new ModelCopy(target, Successor.folder(target));
      copy.fill(folder);
      return copy;
    } catch (IOException e) {
      close(copy);
      throw Destination.unwritable(target, e);
    } catch (RuntimeException | Error e) {
      close(copy);
      throw e;
    }
  }

  private static void close(ModelCopy copy) {
    if (copy != null) {
      copy.close();
    }
  }

  private void fill(Path folder) throws IOException {
    List<Path> files;
    try (var entries = Files.list(folder)) {
      files = entries.filter(Files::isRegularFile).sorted().toList();
    }
    for (Path file : files) {
      String name = file.getFileName().toString();
      if (OTHER_WEIGHTS.matcher(name).matches()) {
        continue;
      }
      Path to = growing.path().resolve(name);
      Files.copy(file, to);
      if (name.endsWith(".safetensors")) {
        add(to);
      }
    }
  }

  private void add(Path file) throws IOException {
    FileChannel channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE);
    channels.add(channel);
    try (Safetensors tensors = Safetensors.open(file)) {
      for (String name : tensors.names()) {
        TensorView view = tensors.tensor(name);
        places.put(name, new Place(channel, tensors.offset(name), view.dtype(), view.elements()));
      }
    }
  }

  /**
   * Changes elements {@code first, first + stride, …} of a tensor, rounded to its dtype.
   *
   * @param tensor a name of the model's checkpoint, F32, F16 or BF16
   */
  public void set(String tensor, long first, long stride, float[] values) {
    Place place = places.get(tensor);
    if (place == null) {
      throw new IllegalArgumentException("no tensor \"" + tensor + "\" in the model");
    }
    if (first < 0 || stride < 1 || first + stride * (values.length - 1L) >= place.elements) {
      throw new IndexOutOfBoundsException(
          "elements %d + n * %d of %s, which has %d"
              .formatted(first, stride, tensor, place.elements));
    }
    int bytes = place.dtype.bytes();
    int run = stride == 1 ? values.length : 1;
    ByteBuffer buffer = ByteBuffer.allocate(run * bytes).order(ByteOrder.LITTLE_ENDIAN);
    try {
      for (int i = 0; i < values.length; i += run) {
        buffer.clear();
        for (int j = i; j < i + run; j++) {
          put(buffer, place.dtype, values[j]);
        }
        buffer.flip();
        long at = place.offset + (first + i * stride) * bytes;
        while (buffer.hasRemaining()) {
          at += place.channel.write(buffer, at);
        }
      }
    } catch (IOException e) {
      throw Destination.unwritable(target, e);
    }
  }

  /** Adds a file of its own, or replaces the copy of one, such as a note of what was changed. */
  public void add(String name, String text) {
    try {
      Files.writeString(growing.path().resolve(name), text);
    } catch (IOException e) {
      throw Destination.unwritable(target, e);
    }
  }

  private static void put(ByteBuffer buffer, DType dtype, float value) {
    switch (dtype) {
      case F32 -> buffer.putFloat(value);
      case F16 -> buffer.putShort(Float.floatToFloat16(value));
      case BF16 -> buffer.putShort(SafetensorsWriter.bf16(value));
      default -> throw new IllegalArgumentException("weights of type " + dtype);
    }
  }

  /** Puts the copy in its place. */
  public void finish() {
    try {
      closeChannels();
      growing.takePlace();
    } catch (IOException e) {
      throw Destination.unwritable(target, e);
    }
  }

  private void closeChannels() throws IOException {
    for (FileChannel channel : channels) {
      channel.close();
    }
  }

  /** Takes away what has not been finished. */
  @Override
  public void close() {
    try {
      closeChannels();
    } catch (IOException e) {
      throw Destination.unwritable(target, e);
    } finally {
      growing.close();
    }
  }
}
