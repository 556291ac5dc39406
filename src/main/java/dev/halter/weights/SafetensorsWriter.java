package dev.halter.weights;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.halter.device.DType;
import dev.halter.files.Destination;
import dev.halter.files.Json;
import dev.halter.files.Successor;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * Writes a safetensors file as a stream: what the tensors are comes first, their elements follow in
 * the same order, in pieces of any size.
 *
 * <pre>{@code
 * try (var out = SafetensorsWriter.create(path, Map.of("made by", "me"),
 *     List.of(new TensorSpec("ids", DType.I32, 2), new TensorSpec("x", DType.F32, 2, 3)))) {
 *   out.write("ids", new int[] {7, 8});
 *   out.write("x", firstRow);
 *   out.write("x", secondRow);
 * }
 * }</pre>
 *
 * <p>The data goes to a temporary file beside {@code path}, which takes the place of {@code path}
 * in one step when all tensors are complete at {@link #close()}. A reader therefore sees the old
 * file or the whole new one, also after a crash.
 */
public final class SafetensorsWriter implements AutoCloseable {

  /** Name, type and shape (outermost first) of a tensor to be written. */
  public record TensorSpec(String name, DType dtype, long... shape) {
    /**
     * Checks the shape.
     *
     * @throws IllegalArgumentException for a negative size, more than 2^63 bytes, or the reserved
     *     name {@code __metadata__}
     */
    public TensorSpec {
      shape = shape.clone();
      if (name.equals("__metadata__")) {
        throw new IllegalArgumentException("a tensor cannot be called __metadata__");
      }
      byteSize(name, dtype, shape);
    }

    @Override
    public long[] shape() {
      return shape.clone();
    }

    /** Length of the tensor's data in bytes. */
    public long byteSize() {
      return byteSize(name, dtype, shape);
    }

    private static long byteSize(String name, DType dtype, long[] shape) {
      try {
        long bytes = dtype.bytes();
        for (long size : shape) {
          if (size < 0) {
            throw new IllegalArgumentException("tensor " + name + " has a negative size");
          }
          bytes = Math.multiplyExact(bytes, size);
        }
        return bytes;
      } catch (ArithmeticException e) {
        throw new IllegalArgumentException("tensor " + name + " has more than 2^63 bytes", e);
      }
    }

    @Override
    public String toString() {
      return name + " " + dtype + " " + Arrays.toString(shape);
    }
  }

  private final Path target;
  private final Successor file;
  private final List<TensorSpec> tensors;
  private final ByteBuffer buffer =
      ByteBuffer.allocateDirect(1 << 18).order(ByteOrder.LITTLE_ENDIAN);

  /** Index of the tensor being written, and how many of its bytes are still to come. */
  private int current;

  private long missing;
  private boolean failed;
  private boolean closed;

  private SafetensorsWriter(Path target, Successor file, List<TensorSpec> tensors) {
    this.target = target;
    this.file = file;
    this.tensors = tensors;
    advance(0);
  }

  /**
   * Starts a file; nothing appears at {@code target} before {@link #close()}.
   *
   * @param metadata free-form text entries of the file
   * @param tensors what will be written, in this order
   * @throws IllegalArgumentException if two tensors have one name
   * @throws UncheckedIOException if the folder cannot be written to
   */
  public static SafetensorsWriter create(
      Path target, Map<String, String> metadata, List<TensorSpec> tensors) {
    try {
      byte[] header = header(metadata, tensors);
      var writer = new SafetensorsWriter(target, Successor.file(target), List.copyOf(tensors));
      writer.begin(header);
      return writer;
    } catch (IOException e) {
      throw Destination.unwritable(target, e);
    }
  }

  private static byte[] header(Map<String, String> metadata, List<TensorSpec> tensors)
      throws IOException {
    var bytes = new ByteArrayOutputStream();
    Set<String> names = new HashSet<>();
    try (JsonGenerator json = Json.to(bytes)) {
      json.writeStartObject();
      if (!metadata.isEmpty()) {
        json.writeObjectFieldStart("__metadata__");
        // In one order, whatever the map's: the same content is the same bytes.
        for (var entry : new TreeMap<>(metadata).entrySet()) {
          json.writeStringField(entry.getKey(), entry.getValue());
        }
        json.writeEndObject();
      }
      long position = 0;
      for (TensorSpec tensor : tensors) {
        if (!names.add(tensor.name())) {
          throw new IllegalArgumentException("two tensors are called " + tensor.name());
        }
        long end = Math.addExact(position, tensor.byteSize());
        json.writeObjectFieldStart(tensor.name());
        json.writeStringField("dtype", tensor.dtype().name());
        json.writeFieldName("shape");
        json.writeArray(tensor.shape, 0, tensor.shape.length);
        json.writeFieldName("data_offsets");
        json.writeArray(new long[] {position, end}, 0, 2);
        json.writeEndObject();
        position = end;
      }
      json.writeEndObject();
    }
    while (bytes.size() % 8 != 0) {
      bytes.write(' '); // the data begins aligned, as in files of the reference implementation
    }
    return bytes.toByteArray();
  }

  /**
   * Writes the next elements of an F32 tensor, or of an F16 or BF16 one (rounded to nearest, ties
   * to even).
   *
   * <p>All {@code write} methods throw {@link IllegalArgumentException} for a tensor that is not
   * due, of another type, or with fewer elements left than that; the file is given up then.
   */
  public void write(String name, float[] values) {
    write(name, values, 0, values.length);
  }

  /** As {@link #write(String, float[])}, from a part of an array. */
  public void write(String name, float[] values, int from, int count) {
    DType dtype = take(name, count, DType.F32, DType.F16, DType.BF16);
    for (int i = from; i < from + count; i++) {
      ensure(4);
      switch (dtype) {
        case F16 -> buffer.putShort(Float.floatToFloat16(values[i]));
        case BF16 -> buffer.putShort(bf16(values[i]));
        default -> buffer.putFloat(values[i]);
      }
    }
  }

  /** Writes the next elements of an I32 tensor. */
  public void write(String name, int[] values) {
    take(name, values.length, DType.I32);
    for (int value : values) {
      ensure(4);
      buffer.putInt(value);
    }
  }

  /** Writes the next elements of an I64 tensor. */
  public void write(String name, long[] values) {
    take(name, values.length, DType.I64);
    for (long value : values) {
      ensure(8);
      buffer.putLong(value);
    }
  }

  /** Writes the next elements of a tensor of any type from their little-endian bytes. */
  public void write(String name, MemorySegment bytes) {
    takeBytes(name, bytes.byteSize());
    put(bytes);
  }

  private DType take(String name, long elements, DType... allowed) {
    DType dtype = due(name).dtype();
    if (!Arrays.asList(allowed).contains(dtype)) {
      throw failed("tensor " + name + " is " + dtype + ", not " + Arrays.toString(allowed));
    }
    takeBytes(name, elements * dtype.bytes());
    return dtype;
  }

  private void takeBytes(String name, long bytes) {
    TensorSpec tensor = due(name);
    if (bytes > missing || bytes % tensor.dtype().bytes() != 0) {
      throw failed("tensor " + tensor + " takes " + missing + " more bytes, not " + bytes);
    }
    missing -= bytes;
    if (missing == 0) {
      advance(current + 1);
    }
  }

  /** The tensor whose turn it is, which must be the one of that name. */
  private TensorSpec due(String name) {
    if (closed) {
      throw new IllegalStateException(target + " is closed");
    }
    if (current == tensors.size()) {
      throw failed("tensor " + name + " is out of turn: all tensors are complete");
    }
    if (!tensors.get(current).name().equals(name)) {
      throw failed("tensor " + name + " is out of turn: " + tensors.get(current) + " is due");
    }
    return tensors.get(current);
  }

  /** Moves on to tensor {@code index}, or the first one after it that has any elements. */
  private void advance(int index) {
    current = index;
    while (current < tensors.size() && tensors.get(current).byteSize() == 0) {
      current++;
    }
    missing = current < tensors.size() ? tensors.get(current).byteSize() : 0;
  }

  private IllegalArgumentException failed(String problem) {
    failed = true;
    return new IllegalArgumentException(target + ": " + problem);
  }

  private void begin(byte[] header) {
    buffer.putLong(header.length);
    try {
      put(MemorySegment.ofArray(header));
    } catch (UncheckedIOException e) {
      file.close();
      throw e;
    }
  }

  private void put(MemorySegment bytes) {
    for (long done = 0; done < bytes.byteSize(); ) {
      ensure(1);
      int piece = (int) Math.min(buffer.remaining(), bytes.byteSize() - done);
      buffer.put(bytes.asSlice(done, piece).asByteBuffer());
      done += piece;
    }
  }

  private void ensure(int bytes) {
    if (buffer.remaining() < bytes) {
      flush();
    }
  }

  private void flush() {
    buffer.flip();
    try {
      while (buffer.hasRemaining()) {
        file.channel().write(buffer);
      }
    } catch (IOException e) {
      failed = true;
      throw Destination.unwritable(target, e);
    } finally {
      buffer.clear();
    }
  }

  /** Nearest bf16, ties to even, as torch rounds; NaN stays NaN. */
  public static short bf16(float value) {
    int bits = Float.floatToRawIntBits(value);
    if (Float.isNaN(value)) {
      return (short) (bits >>> 16 | 0x40);
    }
    return (short) (bits + 0x7fff + (bits >>> 16 & 1) >>> 16);
  }

  /**
   * Puts the file in its place.
   *
   * @throws IllegalStateException if a tensor is incomplete; nothing is left on disk then, and an
   *     older file stays as it was
   */
  @Override
  public void close() {
    if (closed) {
      return;
    }
    try {
      if (!failed) {
        if (current < tensors.size()) {
          failed = true;
          throw new IllegalStateException(
              target + ": tensor " + tensors.get(current) + " lacks " + missing + " bytes");
        }
        flush();
        file.takePlace();
      }
    } catch (IOException e) {
      throw Destination.unwritable(target, e);
    } finally {
      closed = true;
      file.close();
    }
  }
}
