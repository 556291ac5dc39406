package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Struct;
import dev.halter.model.Payloads.Payload;
import dev.halter.model.SteeringTable.Placed;
import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * The operations of all slots ({@code SteerOp} of {@code cuda-kernels/steer.cuh}) in one device
 * array, which doubles when it is full. Each slot has a block of it; blocks given back serve later
 * slots of about that size. Those of all slots that a step brings go up in one copy.
 */
final class SteerOps implements AutoCloseable {
  private static final int FIRST_ROOM = 64; // operations

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

  /**
   * Operations of a slot.
   *
   * @param begin index of the first
   * @param room how many there is room for, a power of two; 0 if there are none
   */
  record Block(int begin, int room, List<Payload> payloads) {
    /** Bytes of the operations and of all that they point to. */
    long bytes() {
      return (long) SteerOp.BYTES * room
          + payloads.stream().mapToLong(payload -> payload.buffer().bytes()).sum();
    }
  }

  private final Device device;
  private final Payloads payloads;
  private final Map<Integer, Deque<Integer>> free = new HashMap<>(); // begins, by room
  private StagedTable array;
  private int end; // of all blocks

  SteerOps(Device device, ArrayHash hash) {
    this.device = device;
    this.payloads = new Payloads(device, hash);
    this.array = new StagedTable(device, (long) SteerOp.BYTES * FIRST_ROOM);
  }

  /** All operations; moves when {@link #add} has no room. */
  Buffer array() {
    return array.buffer();
  }

  /** Brings them and what they point to up to date. */
  void upload() {
    payloads.upload();
    array.upload();
  }

  /** Lets go up already what is much. */
  void uploadMuch() {
    payloads.uploadMuch();
  }

  /** Writes a slot's edits, in order; what fails leaves everything as it was. */
  Block add(List<Placed> edits) {
    List<Payload> taken = new ArrayList<>();
    try {
      edits.forEach(placed -> taken.add(payloads.take(placed.edit())));
      int room = edits.isEmpty() ? 0 : powerOfTwo(edits.size());
      Block block = new Block(room == 0 ? 0 : reserve(room), room, taken);
      MemorySegment records =
          array.change((long) SteerOp.BYTES * block.begin, (long) SteerOp.BYTES * edits.size());
      for (int i = 0; i < edits.size(); i++) {
        Placed placed = edits.get(i);
        Struct<SteerOp> op =
            new Struct<>(operation(placed.edit(), taken.get(i).buffer(), placed.place().at()));
        op.copyTo(records, (long) SteerOp.BYTES * i);
      }
      return block;
    } catch (RuntimeException | Error e) {
      taken.forEach(payloads::giveBack);
      throw e;
    }
  }

  /** Gives back a block that no slot points to any more. */
  void remove(Block block) {
    block.payloads.forEach(payloads::giveBack);
    if (block.room > 0) {
      free.computeIfAbsent(block.room, r -> new ArrayDeque<>()).addLast(block.begin);
    }
  }

  /** The least power of two from {@code count} on. */
  static int powerOfTwo(int count) {
    return count == 1 ? 1 : Integer.highestOneBit(count - 1) << 1;
  }

  private int reserve(int room) {
    Deque<Integer> begins = free.get(room);
    if (begins != null && !begins.isEmpty()) {
      return begins.removeLast();
    }
    long wanted = (long) SteerOp.BYTES * (end + room);
    if (wanted > array.bytes()) {
      StagedTable larger = new StagedTable(device, Math.max(wanted, 2 * array.bytes()));
      MemorySegment held = array.values();
      larger.change(0, held.byteSize()).copyFrom(held);
      array.close();
      array = larger;
    }
    end += room;
    return end - room;
  }

  private static SteerOp operation(Edit edit, Buffer payload, int report) {
    return switch (edit) {
      case Edit.Add add -> new SteerOp(SteerKind.ADD, 0, payload, add.scale(), report);
      case Edit.Ablate ablate -> project(payload, 0, 0, ablate.strength(), report);
      case Edit.Project project ->
          project(payload, project.min(), project.max(), project.strength(), report);
      case Edit.Heads heads ->
          new SteerOp(SteerKind.HEADS, heads.heads().length, payload, heads.scale(), report);
      case Edit.HeadAffine maps ->
          new SteerOp(SteerKind.AFFINE, maps.heads().length, payload, 1, report);
      case Edit.Neurons neurons ->
          new SteerOp(
              SteerKind.of(neurons.site().kind()).number,
              neurons.neurons().length,
              payload,
              neurons.scale(),
              neurons.min(),
              neurons.max(),
              neurons.strength(),
              report);
      case Edit.Queued queued -> throw new IllegalStateException("a queued edit has no operation");
    };
  }

  private static SteerOp project(Buffer unit, float min, float max, float strength, int report) {
    return new SteerOp(SteerKind.PROJECT.number, 0, unit, 1, min, max, strength, report);
  }

  @Override
  public void close() {
    payloads.close();
    array.close();
  }
}
