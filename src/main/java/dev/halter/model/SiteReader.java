package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.weights.ModelConfig;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/**
 * Reads chosen rows of chosen sites while a step passes them, on the device: one launch for each
 * site that is read (and, at {@code hook_pattern}, for each sequence), nothing for the others. What
 * is read stays on the device, as f32, until its reader copies it.
 *
 * <pre>{@code
 * SiteReader reader = new SiteReader(scope, model);
 * reader.begin();
 * reader.read(sites, reader.rows(0, 4), (site, bytes) -> buffers.get(site));
 * model.forward(batch, reader, 0);
 * }</pre>
 */
public final class SiteReader implements SiteHook {
  private static final int BLOCK = 256;

  private final Device device;
  private final ModelConfig config;
  private final Kernel rowsF32;
  private final Kernel rowsT;
  private final Kernel changesF32;
  private final Kernel changesT;
  private final Buffer index; // lists of rows, one after another
  private final List<Reading> readings = new ArrayList<>();
  private int listed; // rows in the index

  /** Says where on the device values go. */
  @FunctionalInterface
  public interface Room {
    /**
     * Called when a site is read, before the launch.
     *
     * @param bytes of the values
     * @return a buffer of at least as many
     */
    Buffer at(Site site, long bytes);
  }

  /** Rows of a step that are read, listed on the device. */
  public record Rows(Buffer index, int count) {}

  /** What is read at some sites. */
  private sealed interface Reading {
    Set<Site> sites();

    /** Rows of the step, or what changed in them since they were read. */
    record OfRows(Set<Site> sites, Rows rows, boolean changes, Room room) implements Reading {}

    /** Patterns of a span's tokens from one on. */
    record OfPatterns(Set<Site> sites, Batch.Span span, int from, Room room) implements Reading {}
  }

  /** A reader of a model's sites, whose list of rows lives in {@code scope}. */
  public SiteReader(Scope scope, Llama model) {
    this.device = model.device();
    this.config = model.config();
    String suffix = "_" + model.type().name().toLowerCase(Locale.ROOT);
    this.rowsF32 = device.kernel("read_rows_f32");
    this.rowsT = device.kernel("read_rows" + suffix);
    this.changesF32 = device.kernel("read_changes_f32");
    this.changesT = device.kernel("read_changes" + suffix);
    this.index = scope.allocate(4L * (model.limits().rows() + model.limits().outputs()));
  }

  /** Begins a step, of which nothing is read yet. */
  public void begin() {
    readings.clear();
    listed = 0;
  }

  /**
   * Lists rows: of the batch, or of its logits for {@code logits}.
   *
   * @throws IndexOutOfBoundsException if more are listed than a step can have
   */
  public Rows rows(int... rows) {
    Buffer list = index.slice(4L * listed, 4L * rows.length);
    if (rows.length > 0) {
      list.set(rows);
    }
    listed += rows.length;
    return new Rows(list, rows.length);
  }

  /** Reads rows at some sites, [rows, width] f32; at no site if there are no rows. */
  public void read(Set<Site> sites, Rows rows, Room room) {
    add(new Reading.OfRows(sites, rows, false, room), rows.count);
  }

  /** Makes of values that {@link #read} left how far the rows have moved from them: row − value. */
  public void readChanges(Set<Site> sites, Rows rows, Room room) {
    add(new Reading.OfRows(sites, rows, true, room), rows.count);
  }

  /**
   * Reads the patterns of a span's tokens, [n_heads, tokens, keys] f32 with keys = position +
   * length of the span.
   *
   * @param from the first token of the span that is read
   */
  public void readPatterns(Set<Site> sites, Batch.Span span, int from, Room room) {
    add(new Reading.OfPatterns(sites, span, from, room), span.length() - from);
  }

  private void add(Reading reading, int count) {
    if (count > 0 && !reading.sites().isEmpty()) {
      readings.add(reading);
    }
  }

  /** Whether nothing is read in the step. */
  public boolean isEmpty() {
    return readings.isEmpty();
  }

  @Override
  public boolean wants(Site site) {
    for (Reading reading : readings) {
      if (reading.sites().contains(site)) {
        return true;
      }
    }
    return false;
  }

  @Override
  public void at(Site site, Matrix values) {
    for (Reading reading : readings) {
      if (reading instanceof Reading.OfRows rows && rows.sites.contains(site)) {
        int width = site.width(config);
        Buffer to = rows.room.at(site, 4L * rows.rows.count * width);
        boolean isF32 = values.type() == DType.F32;
        Kernel kernel = rows.changes ? isF32 ? changesF32 : changesT : isF32 ? rowsF32 : rowsT;
        device.launch(
            kernel,
            (long) rows.rows.count * width * ((rows.changes ? 8 : 4) + values.type().bytes()),
            Grid.of(rows.rows.count),
            BLOCK,
            0,
            to,
            values.buffer(),
            rows.rows.index,
            width,
            values.rowStride());
      }
    }
  }

  @Override
  public void atPattern(Site site, Patterns patterns) {
    for (Reading reading : readings) {
      if (reading instanceof Reading.OfPatterns of && of.sites.contains(site)) {
        int keys = of.span.position() + of.span.length();
        int rows = of.span.length() - of.from;
        long bytes = 4L * config.nHeads() * rows * keys;
        patterns.write(of.room.at(site, bytes), of.span, of.from);
      }
    }
  }
}
