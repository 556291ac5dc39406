package dev.halter.weights;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import dev.halter.device.DType;
import dev.halter.files.BadFileException;
import dev.halter.files.JsonFault;
import dev.halter.files.JsonObject;
import dev.halter.files.MappedFile;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * A safetensors file, mapped into memory: {@code u64} little-endian header length, the header (a
 * JSON object from tensor names to {@code dtype}, {@code shape} and {@code data_offsets}), then the
 * tensors' bytes, which the offsets count from.
 *
 * <p>The file is taken for hostile. The rules are those of the reference implementation
 * (huggingface/safetensors): a header of at most 100 MB, no duplicate names, known dtypes, every
 * tensor's bytes as long as its shape says, and the tensors together covering the data without
 * overlap, hole or rest. Memory used while opening is in proportion to the header.
 *
 * <p>Views stay readable until {@link #close()}, from any thread; afterwards reading one throws
 * {@link IllegalStateException}.
 */
public final class Safetensors implements AutoCloseable {
  private static final int MAX_HEADER = 100_000_000;
  private static final String METADATA = "__metadata__";

  private final Path file;
  private final MappedFile mapped;
  private final Header header;

  private Safetensors(Path file, MappedFile mapped) {
    this.file = file;
    this.mapped = mapped;
    this.header = parse(file, mapped.content());
  }

  /** What the header of a file says, once it has been checked. */
  record Header(Map<String, String> metadata, Map<String, TensorView> tensors) {}

  /** One entry of the header; {@code begin} and {@code end} count from the end of the header. */
  private record Entry(String name, DType dtype, long[] shape, long begin, long end) {}

  /**
   * Maps and checks a file.
   *
   * @throws BadFileException if it is missing or not a valid safetensors file; the message names
   *     the tensor
   */
  public static Safetensors open(Path file) {
    MappedFile mapped = MappedFile.open(file);
    try {
      return new Safetensors(file, mapped);
    } catch (RuntimeException | Error e) {
      mapped.close();
      throw e;
    }
  }

  public Path file() {
    return file;
  }

  /** The free-form text entries of the file; empty if it has none. */
  public Map<String, String> metadata() {
    return header.metadata();
  }

  /** Names of all tensors, in the order of their data. */
  public Set<String> names() {
    return header.tensors().keySet();
  }

  public Optional<TensorView> find(String name) {
    return Optional.ofNullable(header.tensors().get(name));
  }

  /**
   * The tensor of that name.
   *
   * @throws BadFileException if there is none
   */
  public TensorView tensor(String name) {
    return find(name)
        .orElseThrow(
            () ->
                new BadFileException(
                    file, "has no tensor \"" + name + "\"; it holds " + sample(names())));
  }

  /** Where a tensor's elements begin, in bytes from the beginning of the file. */
  public long offset(String name) {
    return tensor(name).data().address() - mapped.content().address();
  }

  /**
   * Checks that what has been read so far is what was in the file.
   *
   * @throws BadFileException if the file got shorter since it was opened: parts that are gone may
   *     have been read as zeros
   */
  public void requireWhole() {
    mapped.requireWhole();
  }

  /**
   * Unmaps the file: all views of it become unreadable.
   *
   * @throws BadFileException as {@link #requireWhole}, once that is done
   */
  @Override
  public void close() {
    mapped.close();
  }

  /** Unmaps the file without a look at what became of it. */
  void release() {
    mapped.release();
  }

  static String sample(Set<String> names) {
    String some =
        names.stream().limit(5).map(name -> '"' + name + '"').collect(Collectors.joining(", "));
    return names.isEmpty()
        ? "none"
        : some + (names.size() > 5 ? " and " + (names.size() - 5) + " more" : "");
  }

  /** Checks the whole content of a file and cuts it into views; {@code file} is for messages. */
  static Header parse(Path file, MemorySegment content) {
    if (content.byteSize() < 8) {
      throw new BadFileException(
          file, "is " + content.byteSize() + " bytes long, too short for a safetensors file");
    }
    long length = content.get(MappedFile.I64, 0);
    if (length < 0 || length > MAX_HEADER) {
      throw new BadFileException(
          file,
          "is no safetensors file: it declares a header of "
              + Long.toUnsignedString(length)
              + " bytes (at most "
              + MAX_HEADER
              + " are allowed)");
    }
    if (length > content.byteSize() - 8) {
      throw new BadFileException(
          file,
          "declares a header of "
              + length
              + " bytes but only "
              + (content.byteSize() - 8)
              + " follow: truncated, or no safetensors file");
    }
    Map<String, String> metadata = new LinkedHashMap<>();
    List<Entry> entries = new ArrayList<>();
    byte[] json = content.asSlice(8, length).toArray(ValueLayout.JAVA_BYTE);
    try (JsonParser parser = JsonObject.parser(file, json)) {
      readHeader(file, parser, metadata, entries);
    } catch (JsonProcessingException e) {
      throw new BadFileException(file, "its header is not valid JSON: " + JsonFault.of(e), e);
    } catch (IOException e) {
      throw new UncheckedIOException(e); // cannot happen: the source is an array
    }
    return new Header(
        Collections.unmodifiableMap(metadata), views(file, content.asSlice(8 + length), entries));
  }

  private static void readHeader(
      Path file, JsonParser parser, Map<String, String> metadata, List<Entry> entries)
      throws IOException {
    if (parser.nextToken() != JsonToken.START_OBJECT) {
      throw new BadFileException(file, "its header is not a JSON object");
    }
    while (parser.nextToken() != JsonToken.END_OBJECT) {
      String name = parser.currentName();
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        throw new BadFileException(file, "header entry \"" + name + "\" is not a JSON object");
      }
      if (name.equals(METADATA)) {
        readMetadata(file, parser, metadata);
      } else {
        entries.add(readEntry(file, parser, name));
      }
    }
    if (parser.nextToken() != null) {
      throw new BadFileException(file, "its header has text after the JSON object");
    }
  }

  private static void readMetadata(Path file, JsonParser parser, Map<String, String> metadata)
      throws IOException {
    while (parser.nextToken() != JsonToken.END_OBJECT) {
      String key = parser.currentName();
      if (parser.nextToken() != JsonToken.VALUE_STRING) {
        throw new BadFileException(file, METADATA + " entry \"" + key + "\" is not a string");
      }
      metadata.put(key, parser.getText());
    }
  }

  private static Entry readEntry(Path file, JsonParser parser, String name) throws IOException {
    DType dtype = null;
    long[] shape = null;
    long[] offsets = null;
    while (parser.nextToken() != JsonToken.END_OBJECT) {
      String key = parser.currentName();
      JsonToken value = parser.nextToken();
      switch (key) {
        case "dtype" -> {
          String type = value == JsonToken.VALUE_STRING ? parser.getText() : value.toString();
          dtype =
              Arrays.stream(DType.values())
                  .filter(known -> known.name().equals(type))
                  .findAny()
                  .orElseThrow(
                      () ->
                          bad(
                              file,
                              name,
                              "has dtype \""
                                  + type
                                  + "\", not one of "
                                  + Arrays.toString(DType.values())));
        }
        case "shape" -> shape = readSizes(file, parser, name, key);
        case "data_offsets" -> offsets = readSizes(file, parser, name, key);
        default -> throw bad(file, name, "has an unknown property \"" + key + "\"");
      }
    }
    if (dtype == null || shape == null || offsets == null) {
      throw bad(file, name, "needs dtype, shape and data_offsets");
    }
    if (offsets.length != 2 || offsets[0] > offsets[1]) {
      throw bad(file, name, "has data_offsets " + brief(offsets) + ", not [begin, end]");
    }
    return new Entry(name, dtype, shape, offsets[0], offsets[1]);
  }

  private static long[] readSizes(Path file, JsonParser parser, String name, String key)
      throws IOException {
    if (parser.currentToken() != JsonToken.START_ARRAY) {
      throw bad(file, name, "has a " + key + " that is not a list");
    }
    List<Long> sizes = new ArrayList<>();
    while (parser.nextToken() != JsonToken.END_ARRAY) {
      boolean fits =
          parser.currentToken() == JsonToken.VALUE_NUMBER_INT
              && parser.getNumberType() != JsonParser.NumberType.BIG_INTEGER
              && parser.getLongValue() >= 0;
      if (!fits) {
        throw bad(
            file,
            name,
            "has " + parser.getText() + " in its " + key + ", not an integer of 63 bits");
      }
      sizes.add(parser.getLongValue());
    }
    return sizes.stream().mapToLong(Long::longValue).toArray();
  }

  /** Checks the entries against each other and the data, and cuts the data along them. */
  private static Map<String, TensorView> views(Path file, MemorySegment data, List<Entry> entries) {
    entries.sort(Comparator.comparingLong(Entry::begin).thenComparingLong(Entry::end));
    Map<String, TensorView> views = new LinkedHashMap<>();
    long position = 0;
    for (Entry entry : entries) {
      String name = entry.name();
      if (entry.end() > data.byteSize()) {
        throw bad(
            file,
            name,
            "ends at byte "
                + entry.end()
                + " of the data, of which there are only "
                + data.byteSize()
                + ": the file is truncated or its header lies");
      }
      if (entry.begin() != position) {
        throw bad(
            file,
            name,
            "begins at byte "
                + entry.begin()
                + " of the data where byte "
                + position
                + " is due: tensors overlap or leave a hole");
      }
      long expected = byteSize(file, entry);
      if (expected != entry.end() - entry.begin()) {
        throw bad(
            file,
            name,
            "has "
                + (entry.end() - entry.begin())
                + " bytes, but "
                + entry.dtype()
                + " "
                + brief(entry.shape())
                + " needs "
                + expected);
      }
      position = entry.end();
      views.put(
          name,
          new TensorView(
              name, entry.dtype(), entry.shape(), data.asSlice(entry.begin(), expected)));
    }
    if (position != data.byteSize()) {
      throw new BadFileException(
          file,
          "has " + (data.byteSize() - position) + " bytes after the last tensor of its header");
    }
    return Collections.unmodifiableMap(views);
  }

  private static long byteSize(Path file, Entry entry) {
    try {
      long bytes = entry.dtype().bytes();
      for (long size : entry.shape()) {
        bytes = Math.multiplyExact(bytes, size);
      }
      return bytes;
    } catch (ArithmeticException e) {
      throw bad(file, entry.name(), "has a shape of more than 2^63 bytes: " + brief(entry.shape()));
    }
  }

  private static String brief(long[] sizes) {
    return sizes.length <= 8
        ? Arrays.toString(sizes)
        : Arrays.toString(Arrays.copyOf(sizes, 8)) + " and " + (sizes.length - 8) + " more";
  }

  private static BadFileException bad(Path file, String tensor, String problem) {
    return new BadFileException(file, "tensor \"" + tensor + "\" " + problem);
  }
}
