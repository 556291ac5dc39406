package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/**
 * The edits of a step's steering slots as device tables: for each steered site an array {@code
 * ranges[slot] = {begin, end}} into one array of operations ({@code cuda-kernels/steer.cuh}). Slot
 * 0 is always "none". Immutable once built; a site that no slot steers has no table, and its
 * kernels do nothing more than without steering.
 */
public final class SteeringTable implements AutoCloseable {
  private static final int OP_BYTES = 32;

  /** One edit of one slot at one site. */
  public sealed interface Edit {
    Site site();

    /** x += scale · vector; vector [d_model] as it is. */
    record Add(Site site, float[] vector, float scale) implements Edit {}

    /** Clips the projection p = x·u to [min, max] along the unit vector u [d_model]. */
    record Project(Site site, float[] unit, float min, float max) implements Edit {}

    /** z of the listed heads times scale. */
    record Heads(Site site, int[] heads, float scale) implements Edit {}

    /**
     * z of each listed head becomes A z + b.
     *
     * @param a [heads, d_head, d_head], row-major
     * @param b [heads, d_head]
     * @param fingerprint of the model that the maps were made for
     */
    record HeadAffine(Site site, int[] heads, float[] a, float[] b, String fingerprint)
        implements Edit {}

    /** One that the host queues between kernels, see {@link QueuedEdit}. */
    non-sealed interface Queued extends Edit {
      /** Floats of its report; the first is the squared norm of the change. */
      int reported();
    }

    /** The listed neurons become clip(scale · value, min, max); min = max sets them. */
    record Neurons(Site site, int[] neurons, float scale, float min, float max) implements Edit {}
  }

  /**
   * Where in a row of the report an edit writes: {@code count} values from {@code at}, squared
   * norms but for {@link Edit.Queued}.
   */
  public record ReportPlace(int at, int count) {}

  private final Device device;
  private final Map<Site, Buffer> ranges = new HashMap<>();
  private final List<Buffer> payloads = new ArrayList<>();
  private final List<List<ReportPlace>> places = new ArrayList<>();
  private final Map<Site, List<QueuedEdit>> queued = new HashMap<>();
  private final Buffer ops;
  private final int reportStride;

  /**
   * Builds the tables.
   *
   * @param slots edits of slot 1, 2, …, in the order in which they apply; within one row of neurons
   *     the sites apply in the order of the forward pass
   * @param nHeads query heads per layer: an edit of heads reports each head on its own
   */
  public SteeringTable(Device device, List<List<Edit>> slots, int nHeads) {
    this.device = device;
    record Placed(int slot, int order, Edit edit, ReportPlace place) {}

    List<Placed> all = new ArrayList<>();
    int stride = 1;
    places.add(List.of());
    for (int slot = 1; slot <= slots.size(); slot++) {
      int at = 0;
      List<ReportPlace> own = new ArrayList<>();
      for (Edit edit : slots.get(slot - 1)) {
        int count =
            switch (edit) {
              case Edit.Queued queued -> queued.reported();
              default -> edit.site().kind() == Site.Kind.Z ? nHeads : 1;
            };
        ReportPlace place = new ReportPlace(at, count);
        at += count;
        if (!(edit instanceof Edit.Queued)) {
          all.add(new Placed(slot, own.size(), edit, place));
        }
        own.add(place);
      }
      places.add(List.copyOf(own));
      stride = Math.max(stride, at);
    }
    this.reportStride = stride;

    // The three neuron sites of a layer share one table, since one kernel makes all three.
    Map<Site, List<Placed>> bySite = new HashMap<>();
    for (Placed placed : all) {
      bySite.computeIfAbsent(tableOf(placed.edit.site()), s -> new ArrayList<>()).add(placed);
    }
    this.ops = device.allocate((long) OP_BYTES * Math.max(1, all.size()));
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment records = arena.allocate((long) OP_BYTES * Math.max(1, all.size()), 8);
      int next = 0;
      for (Map.Entry<Site, List<Placed>> entry : bySite.entrySet()) {
        List<Placed> edits = new ArrayList<>(entry.getValue());
        edits.sort(
            Comparator.comparingInt(Placed::slot)
                .thenComparing(placed -> placed.edit.site().kind())
                .thenComparingInt(Placed::order));
        int[] range = new int[2 * (slots.size() + 1)];
        for (Placed placed : edits) {
          if (range[2 * placed.slot + 1] == 0) {
            range[2 * placed.slot] = next;
          }
          write(records.asSlice((long) OP_BYTES * next, OP_BYTES), placed.edit, placed.place.at);
          range[2 * placed.slot + 1] = ++next;
        }
        Buffer table = device.allocate(4L * range.length);
        table.set(range);
        ranges.put(entry.getKey(), table);
      }
      ops.copyFrom(records);
    }
  }

  private static Site tableOf(Site site) {
    return site.kind().isNeurons() ? new Site(Site.Kind.POST, site.layer()) : site;
  }

  private void write(MemorySegment op, Edit edit, int report) {
    switch (edit) {
      case Edit.Add add -> write(op, 1, 0, payload(add.vector), add.scale, 0, 0, report);
      case Edit.Project project ->
          write(op, 2, 0, payload(project.unit), 1, project.min, project.max, report);
      case Edit.Heads heads ->
          write(op, 3, heads.heads.length, payload(heads.heads), heads.scale, 0, 0, report);
      case Edit.Queued queued -> throw new IllegalStateException("a queued edit has no operation");
      case Edit.HeadAffine maps -> write(op, 7, maps.heads.length, payload(maps), 1, 0, 0, report);
      case Edit.Neurons neurons -> {
        int kind =
            switch (neurons.site.kind()) {
              case PRE -> 4;
              case PRE_LINEAR -> 5;
              default -> 6;
            };
        int count = neurons.neurons.length;
        Buffer list = payload(neurons.neurons);
        write(op, kind, count, list, neurons.scale, neurons.min, neurons.max, report);
      }
    }
  }

  private static void write(
      MemorySegment op, int kind, int count, Buffer data, float a, float lo, float hi, int report) {
    op.set(ValueLayout.JAVA_INT, 0, kind);
    op.set(ValueLayout.JAVA_INT, 4, count);
    op.set(ValueLayout.JAVA_LONG, 8, data.address());
    op.set(ValueLayout.JAVA_FLOAT, 16, a);
    op.set(ValueLayout.JAVA_FLOAT, 20, lo);
    op.set(ValueLayout.JAVA_FLOAT, 24, hi);
    op.set(ValueLayout.JAVA_INT, 28, report);
  }

  /** Heads, filled up to a multiple of 16, then each head's A transposed and b. */
  private Buffer payload(Edit.HeadAffine maps) {
    int count = maps.heads.length;
    int d = count == 0 ? 0 : maps.b.length / count;
    int first = (count + 15) / 16 * 16;
    float[] values = new float[first + count * (d + 1) * d];
    for (int i = 0; i < count; i++) {
      values[i] = Float.intBitsToFloat(maps.heads[i]);
      int to = first + i * (d + 1) * d;
      for (int row = 0; row < d; row++) {
        for (int column = 0; column < d; column++) {
          values[to + column * d + row] = maps.a[(i * d + row) * d + column];
        }
      }
      System.arraycopy(maps.b, i * d, values, to + d * d, d);
    }
    return payload(values);
  }

  private Buffer payload(float[] values) {
    Buffer buffer = device.allocate(4L * Math.max(1, values.length));
    buffer.set(values);
    payloads.add(buffer);
    return buffer;
  }

  private Buffer payload(int[] values) {
    Buffer buffer = device.allocate(4L * values.length);
    buffer.set(values);
    payloads.add(buffer);
    return buffer;
  }

  /** The table of a site, or null where no slot steers it. */
  Buffer ranges(Site.Kind kind, int layer) {
    return ranges.get(new Site(kind, layer));
  }

  /** Adds what makes the {@link Edit.Queued} edits of a site, before the first step. */
  public void queue(QueuedEdit edit) {
    queued.computeIfAbsent(edit.site(), site -> new ArrayList<>()).add(edit);
  }

  /** What is queued at a site, in order. */
  List<QueuedEdit> queued(Site.Kind kind, int layer) {
    return queued.isEmpty() ? List.of() : queued.getOrDefault(new Site(kind, layer), List.of());
  }

  /** Whether a queued edit has more to do for a token of these spans than for others. */
  boolean solves(Batch batch) {
    return queued.values().stream()
        .flatMap(List::stream)
        .anyMatch(
            edit ->
                batch.spans().stream()
                    .anyMatch(span -> IntStream.of(span.slots()).anyMatch(edit::solves)));
  }

  Buffer ops() {
    return ops;
  }

  /** Floats in a row of the report. */
  public int reportStride() {
    return reportStride;
  }

  /** For each edit of a slot, in the order given, where its report lies in a report row. */
  public List<ReportPlace> places(int slot) {
    return places.get(slot);
  }

  @Override
  public void close() {
    ops.close();
    ranges.values().forEach(Buffer::close);
    payloads.forEach(Buffer::close);
  }
}
