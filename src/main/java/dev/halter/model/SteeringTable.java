package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Scope;
import dev.halter.device.Struct;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
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

  /**
   * Where in a row of the report an edit writes: {@code count} values from {@code at}, squared
   * norms but for {@link Edit.Queued}.
   */
  public record ReportPlace(int at, int count) {}

  /** An edit of a slot, and where it reports. */
  public record Placed(int slot, Edit edit, ReportPlace place) {
    /** What it can be made in one go with; edits that kernels make by themselves have one kind. */
    private Object together() {
      return edit instanceof Edit.Queued queued ? queued.together() : Kernels.EDITS;
    }
  }

  private enum Kernels {
    EDITS
  }

  /** What an operation does; the kernels' numbers. */
  private enum SteerKind {
    ADD(1),
    PROJECT(2),
    HEADS(3),
    GATE(4),
    UP(5),
    POST(6),
    AFFINE(7);

    private final int number;

    SteerKind(int number) {
      this.number = number;
    }

    /** The operation of neurons at their site. */
    static SteerKind of(Site.Kind neurons) {
      return switch (neurons) {
        case PRE -> GATE;
        case PRE_LINEAR -> UP;
        default -> POST;
      };
    }
  }

  /** An operation; the kernels' structure. */
  private record SteerOp(
      int kind,
      int count,
      Buffer payload,
      float a,
      float lo,
      float hi,
      float strength,
      int report) {
    static final int BYTES = 40;

    /** One that multiplies or adds, and has no bounds. */
    SteerOp(SteerKind kind, int count, Buffer payload, float a, int report) {
      this(kind.number, count, payload, a, 0, 0, 1, report);
    }
  }

  /** Edits of a slot that follow one another and are made in one go. */
  private record Run(Object together, List<Placed> edits) {
    boolean ofKernels() {
      return together == Kernels.EDITS;
    }
  }

  /** Makes what does some {@link Edit.Queued} of one site in one go. */
  public interface Queue {
    /**
     * One edit for all of {@code edits}.
     *
     * @param scope of the table, which what it allocates lives in
     * @param edits at most one of each slot
     */
    QueuedEdit of(Scope scope, List<Placed> edits);
  }

  private final Scope scope;
  private final Map<Site, Buffer> ranges = new HashMap<>();
  private final List<List<ReportPlace>> places = new ArrayList<>();
  private final Map<Site, List<QueuedEdit>> queued = new HashMap<>();
  private final Queue queue;
  private final Buffer ops;
  private final int reportStride;

  /** Builds the tables of slots that have no {@link Edit.Queued}. */
  public SteeringTable(Device device, List<List<Edit>> slots, int nHeads) {
    this(
        device,
        slots,
        nHeads,
        (scope, edits) -> {
          throw new IllegalArgumentException("nobody queues " + edits);
        });
  }

  /**
   * Builds the tables.
   *
   * @param slots edits of slot 1, 2, …, in the order in which they apply; within one row of neurons
   *     the sites apply in the order of the forward pass
   * @param nHeads query heads per layer: an edit of heads reports each head on its own
   */
  public SteeringTable(Device device, List<List<Edit>> slots, int nHeads, Queue queue) {
    this.scope = device.scope();
    this.queue = queue;
    // The three neuron sites of a layer share one table, since one kernel makes all three.
    Map<Site, Map<Integer, List<Placed>>> bySite = new LinkedHashMap<>();
    int stride = 1;
    int count = 0;
    places.add(List.of());
    for (int slot = 1; slot <= slots.size(); slot++) {
      int at = 0;
      List<ReportPlace> ofSlot = new ArrayList<>();
      for (Edit edit : slots.get(slot - 1)) {
        int reported =
            switch (edit) {
              case Edit.Queued queued -> queued.reported();
              default -> edit.site().kind() == Site.Kind.Z ? nHeads : 1;
            };
        ReportPlace place = new ReportPlace(at, reported);
        at += reported;
        ofSlot.add(place);
        count++;
        bySite
            .computeIfAbsent(tableOf(edit.site()), s -> new LinkedHashMap<>())
            .computeIfAbsent(slot, s -> new ArrayList<>())
            .add(new Placed(slot, edit, place));
      }
      places.add(List.copyOf(ofSlot));
      stride = Math.max(stride, at);
    }
    this.reportStride = stride;
    long bytes = (long) SteerOp.BYTES * Math.max(1, count);
    try (Arena arena = Arena.ofConfined()) {
      this.ops = scope.allocate(bytes);
      Operations operations = new Operations(arena.allocate(bytes, 8), slots.size());
      bySite.forEach((site, edits) -> place(site, edits, operations));
      ops.copyFrom(operations.records);
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
  }

  private static Site tableOf(Site site) {
    return site.kind().isNeurons() ? new Site(Site.Kind.POST, site.layer()) : site;
  }

  /**
   * Lays out one site. What stands before a slot's first queued edit is left to the kernel that
   * makes the site, at {@code hook_resid_pre} what stands after its last one; the rest goes into
   * rounds between kernels.
   */
  private void place(Site site, Map<Integer, List<Placed>> edits, Operations operations) {
    boolean kernelLast = site.kind() == Site.Kind.RESID_PRE;
    Map<Integer, List<Placed>> kernels = new LinkedHashMap<>();
    List<List<Run>> between = new ArrayList<>();
    edits.forEach(
        (slot, ofSlot) -> {
          ofSlot.sort(Comparator.comparing(placed -> placed.edit.site().kind()));
          List<Run> runs = runs(ofSlot);
          Run outermost = kernelLast ? runs.getLast() : runs.getFirst();
          if (outermost.ofKernels()) {
            kernels.put(slot, outermost.edits);
            runs.remove(kernelLast ? runs.size() - 1 : 0);
          }
          between.add(runs);
        });
    if (!kernels.isEmpty()) {
      ranges.put(site, operations.add(kernels));
    }
    List<QueuedEdit> inOrder = new ArrayList<>();
    for (List<Run> round : Rounds.of(between, Run::together)) {
      if (round.getFirst().ofKernels()) {
        Map<Integer, List<Placed>> bySlot = new LinkedHashMap<>();
        round.forEach(run -> bySlot.put(run.edits.getFirst().slot, run.edits));
        inOrder.add(new RowEdits(scope.device(), operations.add(bySlot), ops));
      } else {
        inOrder.add(queue.of(scope, round.stream().map(run -> run.edits.getFirst()).toList()));
      }
    }
    if (!inOrder.isEmpty()) {
      queued.put(site, inOrder);
    }
  }

  /** Cuts a slot's edits of one site where a queued one begins or ends. */
  private static List<Run> runs(List<Placed> edits) {
    List<Run> runs = new ArrayList<>();
    for (Placed placed : edits) {
      boolean goesOn =
          !(placed.edit instanceof Edit.Queued) && !runs.isEmpty() && runs.getLast().ofKernels();
      if (!goesOn) {
        runs.add(new Run(placed.together(), new ArrayList<>()));
      }
      runs.getLast().edits.add(placed);
    }
    return runs;
  }

  /** The array of operations while it grows. */
  private final class Operations {
    private final MemorySegment records;
    private final int slots;
    private int next;

    Operations(MemorySegment records, int slots) {
      this.records = records;
      this.slots = slots;
    }

    /** Adds edits of some slots; returns {@code ranges[slot]}, in which others have none. */
    Buffer add(Map<Integer, List<Placed>> edits) {
      int[] range = new int[2 * (slots + 1)];
      edits.forEach(
          (slot, ofSlot) -> {
            range[2 * slot] = next;
            for (Placed placed : ofSlot) {
              Struct<SteerOp> op = new Struct<>(operation(placed.edit, placed.place.at));
              op.copyTo(records, (long) SteerOp.BYTES * next++);
            }
            range[2 * slot + 1] = next;
          });
      return scope.of(range);
    }
  }

  private SteerOp operation(Edit edit, int report) {
    return switch (edit) {
      case Edit.Add add ->
          new SteerOp(SteerKind.ADD, 0, scope.of(add.vector()), add.scale(), report);
      case Edit.Ablate ablate -> project(ablate.unit(), 0, 0, ablate.strength(), report);
      case Edit.Project project ->
          project(project.unit(), project.min(), project.max(), project.strength(), report);
      case Edit.Heads heads ->
          new SteerOp(
              SteerKind.HEADS,
              heads.heads().length,
              scope.of(heads.heads()),
              heads.scale(),
              report);
      case Edit.Queued queued -> throw new IllegalStateException("a queued edit has no operation");
      case Edit.HeadAffine maps ->
          new SteerOp(SteerKind.AFFINE, maps.heads().length, payload(maps), 1, report);
      case Edit.Neurons neurons ->
          new SteerOp(
              SteerKind.of(neurons.site().kind()).number,
              neurons.neurons().length,
              scope.of(neurons.neurons()),
              neurons.scale(),
              neurons.min(),
              neurons.max(),
              neurons.strength(),
              report);
    };
  }

  private SteerOp project(float[] unit, float min, float max, float strength, int report) {
    return new SteerOp(SteerKind.PROJECT.number, 0, scope.of(unit), 1, min, max, strength, report);
  }

  /** Heads, filled up to a multiple of 16, then each head's A transposed and b. */
  private Buffer payload(Edit.HeadAffine maps) {
    int count = maps.heads().length;
    int d = count == 0 ? 0 : maps.b().length / count;
    int first = (count + 15) / 16 * 16;
    float[] values = new float[first + count * (d + 1) * d];
    for (int i = 0; i < count; i++) {
      values[i] = Float.intBitsToFloat(maps.heads()[i]);
      int to = first + i * (d + 1) * d;
      for (int row = 0; row < d; row++) {
        for (int column = 0; column < d; column++) {
          values[to + column * d + row] = maps.a()[(i * d + row) * d + column];
        }
      }
      System.arraycopy(maps.b(), i * d, values, to + d * d, d);
    }
    return scope.of(values);
  }

  /** The table of a site, or null where no slot steers it. */
  Buffer ranges(Site.Kind kind, int layer) {
    return ranges.get(new Site(kind, layer));
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
    scope.close();
  }
}
