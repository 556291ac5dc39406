package dev.halter.weights;

import dev.halter.files.BadFileException;
import dev.halter.files.MappedFile;
import dev.halter.files.WholeFile;
import java.io.ByteArrayOutputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A control vector as llama.cpp's cvector-generator, repeng and EasySteer write it: a GGUF file
 * whose tensors {@code direction.N} are F32 vectors of d_model values, one per layer.
 *
 * <p>The rules are llama.cpp's (common_control_vector_load): any other tensor is an error, so are N
 * = 0, another type, more than one dimension, and directions of different lengths; several
 * directions of one layer add up. llama.cpp adds {@code direction.N} to the output of block N,
 * counted from 0, which is {@code blocks.N.hook_resid_post}; repeng reads and adds it there too.
 *
 * <p>The GGUF layout (versions 2 and 3, little-endian; 3 is written) is that of ggml's gguf.h. The
 * file is taken for hostile: memory used is in proportion to the directions it really holds.
 *
 * @param modelHint the kind of model it was made for, {@code model_type} of its config.json, if the
 *     file says so; repeng takes no file without
 * @param method how it was made, if the file says so
 * @param directions the vectors by layer, all of one length; not to be modified
 */
public record ControlVector(
    Optional<String> modelHint, Optional<String> method, SortedMap<Integer, float[]> directions) {
  private static final String ARCHITECTURE = "general.architecture";
  private static final String CONTROL_VECTOR = "controlvector";
  private static final String MODEL_HINT = "controlvector.model_hint";
  private static final String METHOD = "controlvector.method";
  private static final String LAYER_COUNT = "controlvector.layer_count";
  private static final int MAGIC = 0x46554747; // "GGUF"
  private static final int VERSION = 3;
  private static final int ALIGNMENT = 32; // where a file does not say another
  private static final Pattern DIRECTION = Pattern.compile("direction\\.([0-9]{1,6})");
  private static final int F32 = 0;

  // GGUF's value types.
  private static final int U32 = 4;
  private static final int I32 = 5;
  private static final int STRING = 8;
  private static final int ARRAY = 9;

  private static final int MAX_LENGTH = 1 << 20;

  public ControlVector {
    directions = Collections.unmodifiableSortedMap(new TreeMap<>(directions));
  }

  /**
   * Reads a whole file.
   *
   * @throws BadFileException if it is missing, damaged or no control vector; the message names the
   *     tensor
   */
  public static ControlVector read(Path file) {
    try (MappedFile mapped = MappedFile.open(file)) {
      return parse(file, mapped.content());
    }
  }

  /**
   * Writes it, so that llama.cpp and repeng read it as well; readers see the whole file or none.
   *
   * @throws IllegalArgumentException if it has no direction, one of layer 0, which llama.cpp has no
   *     place for, or directions of different lengths
   * @throws java.io.UncheckedIOException if the file cannot be written
   */
  public void write(Path file) {
    if (directions.isEmpty() || directions.firstKey() < 1) {
      throw new IllegalArgumentException(
          file + ": a control vector has directions of layers from 1 on, not " + layers());
    }
    WholeFile.write(file, bytes());
  }

  private byte[] bytes() {
    Map<String, String> texts = new TreeMap<>();
    modelHint.ifPresent(hint -> texts.put(MODEL_HINT, hint));
    method.ifPresent(name -> texts.put(METHOD, name));
    Layout out = new Layout();
    out.i32(MAGIC).i32(VERSION).i64(directions.size()).i64(2 + texts.size());
    out.text(ARCHITECTURE).i32(STRING).text(CONTROL_VECTOR);
    texts.forEach((key, text) -> out.text(key).i32(STRING).text(text));
    out.text(LAYER_COUNT).i32(U32).i32(directions.size());
    long offset = 0;
    for (int layer : directions.keySet()) {
      out.text("direction." + layer).i32(1).i64(length()).i32(F32).i64(offset);
      offset = aligned(offset + 4L * length(), ALIGNMENT);
    }
    for (float[] direction : directions.values()) {
      out.align().floats(direction);
    }
    return out.align().bytes.toByteArray();
  }

  /** Grows from the beginning of a file on. */
  private static final class Layout {
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

    Layout i32(int value) {
      return put(4, buffer -> buffer.putInt(value));
    }

    Layout i64(long value) {
      return put(8, buffer -> buffer.putLong(value));
    }

    Layout text(String text) {
      byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
      return i64(utf8.length).put(utf8.length, buffer -> buffer.put(utf8));
    }

    Layout floats(float[] values) {
      return put(4 * values.length, buffer -> buffer.asFloatBuffer().put(values));
    }

    Layout align() {
      return put((int) (aligned(bytes.size(), ALIGNMENT) - bytes.size()), padding -> {});
    }

    private Layout put(int size, Consumer<ByteBuffer> content) {
      byte[] part = new byte[size];
      content.accept(ByteBuffer.wrap(part).order(ByteOrder.LITTLE_ENDIAN));
      bytes.writeBytes(part);
      return this;
    }
  }

  /** The layers that have a direction. */
  public Set<Integer> layers() {
    return directions.keySet();
  }

  /** Number of values of each direction: d_model of the model it was made for. */
  public int length() {
    return directions.firstEntry().getValue().length;
  }

  private record Tensor(String name, int layer, long length, long offset) {}

  /** Parses the content of a file; {@code file} is for messages. */
  static ControlVector parse(Path file, MemorySegment content) {
    var in = new Cursor(file, content);
    if (content.byteSize() < 4 || in.i32() != MAGIC) {
      throw new BadFileException(file, "is no GGUF file");
    }
    int version = in.i32();
    if (version != 2 && version != VERSION) {
      throw new BadFileException(
          file,
          "is GGUF of version "
              + Integer.toUnsignedString(version)
              + "; only 2 and 3 in little-endian order are supported");
    }
    long tensors = in.count("tensors", 8 + 4 + 4 + 8);
    long entries = in.count("metadata entries", 8 + 4 + 1);
    Metadata metadata = Metadata.read(in, entries);
    if (metadata.architecture.filter(name -> !name.equals(CONTROL_VECTOR)).isPresent()) {
      throw new BadFileException(
          file,
          "is a GGUF file of architecture \""
              + metadata.architecture.get()
              + "\", not a control vector");
    }
    List<Tensor> infos = new ArrayList<>();
    for (long i = 0; i < tensors; i++) {
      infos.add(tensor(in));
    }
    if (infos.isEmpty()) {
      throw new BadFileException(file, "holds no directions");
    }
    long start = aligned(in.position, metadata.alignment);
    return new ControlVector(
        metadata.modelHint, metadata.method, sum(file, content, infos, start, metadata));
  }

  private static Tensor tensor(Cursor in) {
    String name = in.text();
    Matcher direction = DIRECTION.matcher(name);
    if (!direction.matches()) {
      throw in.bad(
          "tensor \"" + name + "\" does not belong in a control vector (only direction.N)");
    }
    int layer = Integer.parseInt(direction.group(1));
    if (layer == 0) {
      throw in.bad("tensor \"" + name + "\": directions count from 1");
    }
    int dimensions = in.i32();
    if (dimensions != 1) {
      throw in.bad(
          "tensor \""
              + name
              + "\" has "
              + Integer.toUnsignedString(dimensions)
              + " dimensions; a direction has 1");
    }
    long length = in.i64();
    int type = in.i32();
    if (type != F32) {
      throw in.bad(
          "tensor \""
              + name
              + "\" has ggml type "
              + Integer.toUnsignedString(type)
              + "; a direction is F32 (0)");
    }
    return new Tensor(name, layer, length, in.i64());
  }

  private static SortedMap<Integer, float[]> sum(
      Path file, MemorySegment content, List<Tensor> tensors, long start, Metadata metadata) {
    SortedMap<Integer, float[]> directions = new TreeMap<>();
    long length = tensors.getFirst().length();
    long available = content.byteSize() - start;
    long due = 0; // as for ggml, tensors follow one another, each padded to the alignment
    for (Tensor tensor : tensors) {
      if (tensor.length() != length) {
        throw new BadFileException(
            file,
            "tensor \""
                + tensor.name()
                + "\" has "
                + Long.toUnsignedString(tensor.length())
                + " values where "
                + tensors.getFirst().name()
                + " has "
                + Long.toUnsignedString(length));
      }
      if (tensor.offset() != due) {
        throw new BadFileException(
            file,
            "tensor \""
                + tensor.name()
                + "\" lies at offset "
                + Long.toUnsignedString(tensor.offset())
                + " where "
                + due
                + " is due");
      }
      if (length < 1 || length > MAX_LENGTH || length > (available - due) / 4) {
        throw new BadFileException(
            file,
            "tensor \""
                + tensor.name()
                + "\" has "
                + Long.toUnsignedString(length)
                + " values; at most "
                + MAX_LENGTH
                + " make sense, and the file has "
                + Math.max(0, available - due)
                + " bytes for them");
      }
      float[] direction =
          directions.computeIfAbsent(tensor.layer(), layer -> new float[(int) length]);
      for (int i = 0; i < length; i++) {
        direction[i] += content.get(MappedFile.F32, start + due + 4L * i);
      }
      due = aligned(due + 4 * length, metadata.alignment);
    }
    return directions;
  }

  private static long aligned(long position, long alignment) {
    return Math.ceilDiv(position, alignment) * alignment;
  }

  /** The few entries that matter; all others are checked and passed over. */
  private static final class Metadata {
    Optional<String> architecture = Optional.empty();
    Optional<String> modelHint = Optional.empty();
    Optional<String> method = Optional.empty();
    long alignment = ALIGNMENT;

    static Metadata read(Cursor in, long entries) {
      var metadata = new Metadata();
      Set<String> keys = new HashSet<>();
      for (long i = 0; i < entries; i++) {
        String key = in.text();
        if (!keys.add(key)) {
          throw in.bad("metadata entry \"" + key + "\" appears twice");
        }
        metadata.readValue(in, key, in.i32());
      }
      return metadata;
    }

    private void readValue(Cursor in, String key, int type) {
      switch (key) {
        case ARCHITECTURE -> architecture = Optional.of(text(in, key, type));
        case MODEL_HINT -> modelHint = Optional.of(text(in, key, type));
        case METHOD -> method = Optional.of(text(in, key, type));
        case "general.alignment" -> {
          alignment = type == U32 ? Integer.toUnsignedLong(in.i32()) : 0;
          if (alignment == 0 || Long.bitCount(alignment) != 1) {
            throw in.bad("metadata entry \"" + key + "\" is no u32 power of two");
          }
        }
        case LAYER_COUNT -> {
          // repeng writes u32, llama.cpp i32; what it counts differs too, so only its type counts.
          if (type != U32 && type != I32) {
            throw in.bad("metadata entry \"" + key + "\" has type " + type + ", not u32 or i32");
          }
          in.skip(4);
        }
        default -> skip(in, key, type);
      }
    }

    private static String text(Cursor in, String key, int type) {
      if (type != STRING) {
        throw in.bad("metadata entry \"" + key + "\" has type " + type + ", not string");
      }
      return in.text();
    }

    private static void skip(Cursor in, String key, int type) {
      switch (type) {
        case STRING -> in.skip(in.i64());
        case ARRAY -> {
          int elementType = in.i32();
          long elements = in.count("elements of " + key, elementType == STRING ? 8 : 1);
          if (elementType == STRING) {
            for (long i = 0; i < elements; i++) {
              in.skip(in.i64());
            }
          } else {
            in.skip(elements * size(in, key, elementType));
          }
        }
        default -> in.skip(size(in, key, type));
      }
    }

    /** Bytes of a value of one of the fixed-size types. */
    private static int size(Cursor in, String key, int type) {
      return switch (type) {
        case 0, 1, 7 -> 1; // u8, i8, bool
        case 2, 3 -> 2; // u16, i16
        case U32, I32, 6 -> 4; // and f32
        case 10, 11, 12 -> 8; // u64, i64, f64
        default ->
            throw in.bad(
                "metadata entry \""
                    + key
                    + "\" has unsupported type "
                    + Integer.toUnsignedString(type));
      };
    }
  }

  /** Reads forward through the file; running out of bytes is an error that says so. */
  private static final class Cursor {
    private static final int MAX_TEXT = 1 << 16;

    private final Path file;
    private final MemorySegment content;
    private long position;

    Cursor(Path file, MemorySegment content) {
      this.file = file;
      this.content = content;
    }

    int i32() {
      return content.get(MappedFile.I32, advance(4));
    }

    long i64() {
      return content.get(MappedFile.I64, advance(8));
    }

    /** A number of things of at least {@code bytesEach}, of which there must be that many left. */
    long count(String things, int bytesEach) {
      long count = i64();
      if (count < 0 || count > (content.byteSize() - position) / bytesEach) {
        throw bad(
            "declares "
                + Long.toUnsignedString(count)
                + " "
                + things
                + ", more than fit in the file");
      }
      return count;
    }

    String text() {
      long length = i64();
      if (length < 0 || length > MAX_TEXT) {
        throw bad("has a text of " + Long.toUnsignedString(length) + " bytes at byte " + position);
      }
      byte[] bytes = content.asSlice(advance(length), length).toArray(ValueLayout.JAVA_BYTE);
      return new String(bytes, StandardCharsets.UTF_8);
    }

    void skip(long bytes) {
      advance(bytes);
    }

    private long advance(long bytes) {
      if (bytes < 0 || bytes > content.byteSize() - position) {
        throw bad("is truncated: it ends inside its header");
      }
      long at = position;
      position += bytes;
      return at;
    }

    BadFileException bad(String problem) {
      return new BadFileException(file, problem);
    }
  }
}
