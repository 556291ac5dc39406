package dev.halter.files;

import java.io.BufferedOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.channels.Channels;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.zip.GZIPOutputStream;
import org.apache.parquet.bytes.BytesInput;
import org.apache.parquet.bytes.HeapByteBufferAllocator;
import org.apache.parquet.column.ColumnWriteStore;
import org.apache.parquet.column.ColumnWriter;
import org.apache.parquet.column.ParquetProperties;
import org.apache.parquet.column.impl.ColumnWriteStoreV1;
import org.apache.parquet.compression.CompressionCodecFactory.BytesInputCompressor;
import org.apache.parquet.hadoop.ColumnChunkPageWriteStore;
import org.apache.parquet.hadoop.ParquetFileWriter;
import org.apache.parquet.hadoop.metadata.CompressionCodecName;
import org.apache.parquet.io.OutputFile;
import org.apache.parquet.io.PositionOutputStream;
import org.apache.parquet.io.api.Binary;
import org.apache.parquet.schema.LogicalTypeAnnotation;
import org.apache.parquet.schema.MessageType;
import org.apache.parquet.schema.PrimitiveType.PrimitiveTypeName;
import org.apache.parquet.schema.Types;

/**
 * A table written as Apache Parquet, which DuckDB, pandas, Polars and Spark read: values come row
 * by row, each row's in the order of the columns.
 *
 * <p>parquet-java makes the format. Of it the parts are used that turn values into pages, chunks
 * and a footer; its door, {@code ParquetWriter}, would bring Hadoop and native codecs along. Values
 * that repeat are written once (dictionaries), and the JDK compresses pages (gzip).
 */
public final class ParquetTable {

  /** What a column holds; any value may be null. */
  public enum Type {
    /** Integers of 32 bits. */
    INT32,
    /** Numbers of 32 bits, null where they are not finite. */
    FLOAT,
    /** Numbers of 64 bits, null where they are not finite. */
    DOUBLE,
    /** Texts in UTF-8. */
    STRING,
    /** Lists of integers of 32 bits. */
    INT32_LIST
  }

  /** A column of a table. */
  public record Column(String name, Type type) {
    public static Column int32(String name) {
      return new Column(name, Type.INT32);
    }

    public static Column number(String name) {
      return new Column(name, Type.FLOAT);
    }

    public static Column real(String name) {
      return new Column(name, Type.DOUBLE);
    }

    public static Column text(String name) {
      return new Column(name, Type.STRING);
    }

    public static Column int32s(String name) {
      return new Column(name, Type.INT32_LIST);
    }

    private org.apache.parquet.schema.Type parquet() {
      return switch (type) {
        case INT32 -> Types.optional(PrimitiveTypeName.INT32).named(name);
        case FLOAT -> Types.optional(PrimitiveTypeName.FLOAT).named(name);
        case DOUBLE -> Types.optional(PrimitiveTypeName.DOUBLE).named(name);
        case STRING ->
            Types.optional(PrimitiveTypeName.BINARY)
                .as(LogicalTypeAnnotation.stringType())
                .named(name);
        case INT32_LIST ->
            Types.optionalList().requiredElement(PrimitiveTypeName.INT32).named(name);
      };
    }
  }

  /** What a table will hold, written from its first row to its last. */
  public interface Content {
    void write(ParquetTable rows) throws IOException;
  }

  /** Rows and bytes at which a row group ends: what a reader takes in at once, and our memory. */
  private static final int GROUP_ROWS = 1 << 20;

  private static final long GROUP_BYTES = 128L << 20;

  /** Texts of a column that a dictionary takes: all tokens of a large vocabulary. */
  private static final int DICTIONARY_BYTES = 8 << 20;

  /** Leading bytes of the smallest and the largest text that a reader may skip pages by. */
  private static final int STATISTICS_BYTES = 64;

  private static final ParquetProperties PROPERTIES =
      ParquetProperties.builder().withDictionaryPageSize(DICTIONARY_BYTES).build();

  private final List<Column> columns;
  private final MessageType schema;
  private final ParquetFileWriter file;

  private ColumnChunkPageWriteStore pages;
  private ColumnWriteStore store;
  private ColumnWriter[] writers;
  private int rows; // of the row group
  private int column; // that is due

  private ParquetTable(List<Column> columns, OutputFile out) throws IOException {
    this.columns = List.copyOf(columns);
    schema = new MessageType("table", columns.stream().map(Column::parquet).toList());
    file =
        new ParquetFileWriter(
            out,
            schema,
            ParquetFileWriter.Mode.OVERWRITE,
            GROUP_BYTES,
            0,
            STATISTICS_BYTES,
            STATISTICS_BYTES,
            true);
    file.start();
    beginGroup();
  }

  /**
   * Writes a table; readers see the whole file or none.
   *
   * @param facts free-form text entries of the file
   * @throws UncheckedIOException if the file cannot be written
   * @throws IllegalStateException if the last row is not complete
   */
  public static void write(
      Path target, Map<String, String> facts, List<Column> columns, Content content) {
    try (Successor file = Successor.file(target);
        Output out = new Output(Channels.newOutputStream(file.channel()))) {
      ParquetTable table = new ParquetTable(columns, out);
      content.write(table);
      table.end(facts);
      out.flush();
      file.takePlace();
    } catch (IOException e) {
      throw Destination.unwritable(target, e);
    }
  }

  /**
   * The next value, of an INT32 column.
   *
   * <p>All {@code add} methods throw {@link IllegalArgumentException} where a column of another
   * type is due.
   */
  public ParquetTable add(int value) throws IOException {
    due(Type.INT32).write(value, 0, 1);
    return added();
  }

  /** The next value, of a FLOAT column. */
  public ParquetTable add(float value) throws IOException {
    ColumnWriter due = due(Type.FLOAT);
    if (Float.isFinite(value)) {
      due.write(value, 0, 1);
    } else {
      due.writeNull(0, 0);
    }
    return added();
  }

  /** The next value, of a DOUBLE column. */
  public ParquetTable add(double value) throws IOException {
    ColumnWriter due = due(Type.DOUBLE);
    if (Double.isFinite(value)) {
      due.write(value, 0, 1);
    } else {
      due.writeNull(0, 0);
    }
    return added();
  }

  /** The next value, of a STRING column. */
  public ParquetTable add(String value) throws IOException {
    due(Type.STRING).write(Binary.fromString(value), 0, 1);
    return added();
  }

  /** The next value, of an INT32_LIST column. */
  public ParquetTable add(List<Integer> values) throws IOException {
    ColumnWriter due = due(Type.INT32_LIST);
    if (values.isEmpty()) {
      due.writeNull(0, 1); // a list, but no element
    }
    for (int i = 0; i < values.size(); i++) {
      due.write((int) values.get(i), i == 0 ? 0 : 1, 2);
    }
    return added();
  }

  /** No next value, of a column of any type. */
  public ParquetTable addNull() throws IOException {
    writers[column].writeNull(0, 0);
    return added();
  }

  /** A whole row, of Integer, Float, Double, String, lists of Integer, and null. */
  public void row(List<?> values) throws IOException {
    for (Object value : values) {
      switch (value) {
        case null -> addNull();
        case Integer number -> add((int) number);
        case Float number -> add((float) number);
        case Double number -> add((double) number);
        case String text -> add(text);
        case List<?> numbers -> add(numbers.stream().map(Integer.class::cast).toList());
        default -> throw new IllegalArgumentException("no value of a table: " + value.getClass());
      }
    }
  }

  private ColumnWriter due(Type type) {
    if (columns.get(column).type != type) {
      throw new IllegalArgumentException(columns.get(column) + " is due, not " + type);
    }
    return writers[column];
  }

  private ParquetTable added() throws IOException {
    column++;
    if (column == columns.size()) {
      column = 0;
      rows++;
      store.endRecord();
      if (rows == GROUP_ROWS || store.getBufferedSize() > GROUP_BYTES) {
        endGroup();
        beginGroup();
      }
    }
    return this;
  }

  private void beginGroup() {
    pages =
        new ColumnChunkPageWriteStore(
            new Gzip(), schema, HeapByteBufferAllocator.getInstance(), STATISTICS_BYTES, true);
    store = new ColumnWriteStoreV1(schema, pages, PROPERTIES);
    writers = schema.getColumns().stream().map(store::getColumnWriter).toArray(ColumnWriter[]::new);
    rows = 0;
  }

  private void endGroup() throws IOException {
    file.startBlock(rows);
    store.flush();
    pages.flushToFileWriter(file);
    file.endBlock();
    store.close();
    pages.close();
  }

  private void end(Map<String, String> facts) throws IOException {
    if (column != 0) {
      throw new IllegalStateException("the last row ends before " + columns.get(column));
    }
    if (rows > 0) {
      endGroup();
    }
    file.end(facts);
  }

  /** Pages compressed by the JDK. */
  private static final class Gzip implements BytesInputCompressor {
    @Override
    public BytesInput compress(BytesInput page) throws IOException {
      ByteArrayOutputStream bytes = new ByteArrayOutputStream();
      try (GZIPOutputStream gzip = new GZIPOutputStream(bytes)) {
        page.writeAllTo(gzip);
      }
      return BytesInput.from(bytes.toByteArray());
    }

    @Override
    public CompressionCodecName getCodecName() {
      return CompressionCodecName.GZIP;
    }

    @Override
    public void release() {}
  }

  /** The stream that the file grows in, which parquet-java may close, and the place in it. */
  private static final class Output extends PositionOutputStream implements OutputFile {
    private final OutputStream out;
    private long position;

    Output(OutputStream out) {
      this.out = new BufferedOutputStream(out, 1 << 16);
    }

    @Override
    public long getPos() {
      return position;
    }

    @Override
    public void write(int value) throws IOException {
      out.write(value);
      position++;
    }

    @Override
    public void write(byte[] bytes, int from, int count) throws IOException {
      out.write(bytes, from, count);
      position += count;
    }

    @Override
    public void flush() throws IOException {
      out.flush();
    }

    /** Whoever opened what it writes to closes that. */
    @Override
    public void close() {}

    @Override
    public PositionOutputStream create(long blockSize) {
      return this;
    }

    @Override
    public PositionOutputStream createOrOverwrite(long blockSize) {
      return this;
    }

    @Override
    public boolean supportsBlockSize() {
      return false;
    }

    @Override
    public long defaultBlockSize() {
      return 0;
    }
  }
}
