package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Scope;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Deque;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;

/**
 * The edits of steering slots as device tables: for each steered site an array {@code ranges[slot]
 * = {begin, end}} into one array of operations ({@code cuda-kernels/steer.cuh}). Slot 0 is always
 * "none". A site that no slot has steered yet has no table, and its kernels do nothing more than
 * without steering.
 *
 * <p>Slots come and go. One that comes uploads only itself, into tables that stay where they are,
 * so that recorded steps go on; when a table is full, all double. What launches depend on has a
 * number, {@link #layout}. So does what the host queues at a site ({@link Edit.Queued}), as long as
 * a slot that comes needs nothing that no other did.
 */
public final class SteeringTable implements AutoCloseable {
  private static final int FIRST_CAPACITY = 64; // slots

  /**
   * Where in a row of the report an edit writes: {@code count} values from {@code at}, squared
   * norms but for {@link Edit.Queued}.
   */
  public record ReportPlace(int at, int count) {}

  /** An edit of a slot, and where it reports. */
  public record Placed(int slot, Edit edit, ReportPlace place) {}

  /** What must be undone when a slot goes. */
  private record Slot(
      List<ReportPlace> places, SteerOps.Block block, Set<Site> kernels, Set<Site> between) {}

  /** Makes what does some {@link Edit.Queued} of one site in one go. */
  public interface Queue {
    /**
     * One edit, which nobody has joined, with room for all of {@code edits} and for more.
     *
     * @param scope which what it allocates lives in
     * @param slots all slots' numbers are below it
     * @param edits at most one of each slot
     */
    SlotEdit of(Scope scope, int slots, List<Placed> edits);
  }

  private final Device device;
  private final int nHeads;
  private final Queue queue;
  private final SteerOps ops;
  private final List<Slot> slots = new ArrayList<>(); // null where nothing is
  private final Deque<Integer> unused = new ArrayDeque<>(); // numbers of slots that have gone
  private final SlotRanges ranges;
  private final Map<Site, QueuedRounds> between = new HashMap<>();
  private final Map<Site, List<QueuedEdit>> queued = new HashMap<>(); // those of between, in order
  private int reportStride = 1;
  private int layout;

  /** Tables of slots that have no {@link Edit.Queued}: of slot 1, 2, … */
  public SteeringTable(Device device, List<List<Edit>> slots, int nHeads) {
    this(
        device,
        nHeads,
        new ArrayHash(),
        (scope, all, edits) -> {
          throw new IllegalArgumentException("nobody queues " + edits);
        });
    try {
      slots.forEach(this::add);
    } catch (RuntimeException | Error e) {
      close();
      throw e;
    }
  }

  /**
   * Tables without slots.
   *
   * @param nHeads query heads per layer: an edit of heads reports each head on its own
   * @param hash of the edits' arrays
   */
  public SteeringTable(Device device, int nHeads, ArrayHash hash, Queue queue) {
    this.device = device;
    this.nHeads = nHeads;
    this.queue = queue;
    this.ops = new SteerOps(device, hash);
    try {
      this.ranges = new SlotRanges(device, FIRST_CAPACITY);
    } catch (RuntimeException | Error e) {
      ops.close();
      throw e;
    }
    slots.add(new Slot(List.of(), null, Set.of(), Set.of()));
  }

  /**
   * Adds a slot. What fails leaves the others as they are.
   *
   * @param edits in the order in which they apply; within one row of neurons the sites apply in the
   *     order of the forward pass
   * @return its number, which may be that of one that has gone
   * @throws dev.halter.device.OutOfDeviceMemoryException if it does not fit
   */
  public int add(List<Edit> edits) {
    int slot = unused.isEmpty() ? slots.size() : unused.getLast();
    // The three neuron sites of a layer share one table, since one kernel makes all three.
    Map<Site, List<Placed>> bySite = new LinkedHashMap<>();
    List<ReportPlace> places = new ArrayList<>();
    int reported = 0;
    for (Edit edit : edits) {
      ReportPlace place = new ReportPlace(reported, reported(edit));
      places.add(place);
      reported += place.count;
      bySite
          .computeIfAbsent(tableOf(edit.site()), s -> new ArrayList<>())
          .add(new Placed(slot, edit, place));
    }
    Map<Site, EditRun> byKernels = new LinkedHashMap<>();
    Map<Site, List<EditRun>> byHost = new LinkedHashMap<>();
    bySite.forEach((site, placed) -> part(site, placed, byKernels, byHost));

    int capacity = ranges.capacity();
    if (ranges.makeRoom(slot, byKernels.keySet())) {
      layout++;
    }
    if (ranges.capacity() > capacity) {
      moved();
    }
    List<EditRun> runs =
        Stream.concat(
                byKernels.values().stream(),
                byHost.values().stream().flatMap(List::stream).filter(EditRun::isOfKernels))
            .toList();
    Buffer before = ops.array();
    SteerOps.Block block = ops.add(runs.stream().flatMap(run -> run.edits.stream()).toList());
    if (ops.array() != before) {
      moved();
    }
    int begin = block.begin();
    for (EditRun run : runs) {
      run.begin = begin;
      begin = run.end();
    }
    byKernels.forEach((site, run) -> ranges.set(site, slot, run.begin, run.end()));
    byHost.forEach(
        (site, ofSlot) ->
            between.computeIfAbsent(site, s -> new QueuedRounds(device, queue)).add(slot, ofSlot));
    if (reported > reportStride) {
      reportStride = SteerOps.powerOfTwo(reported); // so that few wider plans move the report
      layout++;
    }
    Slot added = new Slot(List.copyOf(places), block, byKernels.keySet(), byHost.keySet());
    if (slot == slots.size()) {
      slots.add(added);
    } else {
      unused.removeLast();
      slots.set(slot, added);
    }
    return slot;
  }

  /** Removes a slot, which no row may have any more; its number is given to another. */
  public void remove(int slot) {
    Slot gone = slots.set(slot, null);
    gone.kernels.forEach(site -> ranges.set(site, slot, 0, 0));
    gone.between.forEach(site -> between.get(site).remove(slot));
    ops.remove(gone.block);
    unused.addLast(slot);
  }

  /** How many slots there are, without slot 0. */
  public int size() {
    return slots.size() - 1 - unused.size();
  }

  /** Bytes that a slot takes of the device's memory, values that others have too included. */
  public long bytes(int slot) {
    SteerOps.Block block = slots.get(slot).block;
    return block.bytes() + 8L * (ranges.sites() + between.size());
  }

  private int reported(Edit edit) {
    return switch (edit) {
      case Edit.Queued queued -> queued.reported();
      default -> edit.site().kind() == Site.Kind.Z ? nHeads : 1;
    };
  }

  private static Site tableOf(Site site) {
    return site.kind().isNeurons() ? new Site(Site.Kind.POST, site.layer()) : site;
  }

  /**
   * Parts a slot's edits of one site. What stands before its first queued edit is left to the
   * kernel that makes the site, at {@code hook_resid_pre} what stands after its last one; the rest
   * goes into rounds between kernels.
   */
  private static void part(
      Site site,
      List<Placed> edits,
      Map<Site, EditRun> byKernels,
      Map<Site, List<EditRun>> byHost) {
    boolean kernelLast = site.kind() == Site.Kind.RESID_PRE;
    edits.sort(Comparator.comparing(placed -> placed.edit.site().kind()));
    List<EditRun> runs = EditRun.of(edits);
    EditRun outermost = kernelLast ? runs.getLast() : runs.getFirst();
    if (outermost.isOfKernels()) {
      byKernels.put(site, outermost);
      runs.remove(kernelLast ? runs.size() - 1 : 0);
    }
    if (!runs.isEmpty()) {
      byHost.put(site, runs);
    }
  }

  /** Tables are elsewhere now: queued edits hold their addresses. */
  private void moved() {
    between.values().forEach(QueuedRounds::unsettle);
    layout++;
  }

  /**
   * The number of what launches depend on: which sites have tables, their addresses, and what is
   * queued. Another number is another layout; the same number is the same. What slots have brought
   * since the last time is on its way to the device before the launches are.
   */
  int layout() {
    upload();
    boolean others = false;
    for (Map.Entry<Site, QueuedRounds> each : between.entrySet()) {
      if (each.getValue().settle(ranges.capacity(), ops.array())) {
        queued.put(each.getKey(), each.getValue().inOrder());
        others = true;
      }
    }
    if (others) {
      layout++;
    }
    return layout;
  }

  /**
   * Lets go up already what slots have brought, if it is much: the device copies it while the host
   * makes the next. Not while a step runs, behind which the copies would wait, and the host for
   * them.
   */
  public void uploadMuch() {
    ops.uploadMuch();
  }

  private void upload() {
    ops.upload();
    ranges.upload();
  }

  /** The table of a site, or null where no slot has steered it. */
  Buffer ranges(Site.Kind kind, int layer) {
    return ranges.of(new Site(kind, layer));
  }

  /** What is queued at a site, in order, as of the last {@link #layout}. */
  List<QueuedEdit> queued(Site.Kind kind, int layer) {
    return queued.isEmpty() ? List.of() : queued.getOrDefault(new Site(kind, layer), List.of());
  }

  /** Whether a queued edit has more to do for a token of these spans than for others. */
  boolean solves(Batch batch) {
    layout();
    if (queued.isEmpty()) {
      return false;
    }
    for (List<QueuedEdit> ofSite : queued.values()) {
      for (QueuedEdit edit : ofSite) {
        for (Batch.Span span : batch.spans()) {
          for (int slot : span.slots()) {
            if (edit.solves(slot)) {
              return true;
            }
          }
        }
      }
    }
    return false;
  }

  Buffer ops() {
    upload();
    return ops.array();
  }

  /** Floats in a row of the report. */
  public int reportStride() {
    return reportStride;
  }

  /** For each edit of a slot, in the order given, where its report lies in a report row. */
  public List<ReportPlace> places(int slot) {
    return slots.get(slot).places;
  }

  @Override
  public void close() {
    between.values().forEach(QueuedRounds::close);
    ranges.close();
    ops.close();
  }
}
