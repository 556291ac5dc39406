package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.ScarceDevice;
import dev.halter.device.UploadCounter;
import dev.halter.device.cpu.CpuDevice;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Tables that slots come into and leave, and what of it all is where on the device. */
class SteeringTableTest {
  private static final Site MID = new Site(Site.Kind.RESID_MID, 0);
  private static final Site POST = new Site(Site.Kind.RESID_POST, 1);
  private static final int D = 8;
  private static final int HEADS = 2;

  private final ScarceDevice device = new ScarceDevice(CpuDevice.open(1));

  @AfterEach
  void close() {
    assertEquals(0, device.buffers());
    device.close();
  }

  private static Edit add(Site site, float value) {
    float[] vector = new float[D];
    vector[0] = value;
    return new Edit.Add(site, vector, 1);
  }

  private static int[] range(SteeringTable table, Site site, int slot) {
    return table.ranges(site.kind(), site.layer()).slice(8L * slot).toInts(2);
  }

  @Test
  void aSlotTouchesNothingButItself() {
    try (SteeringTable table =
        new SteeringTable(device, List.of(List.of(add(MID, 1), add(MID, 2), add(POST, 3))), 1)) {
      Buffer ranges = table.ranges(MID.kind(), MID.layer());
      Buffer ops = table.ops();
      int[] first = range(table, MID, 1);
      int layout = table.layout();
      assertEquals(2, first[1] - first[0]);

      assertEquals(2, table.add(List.of(add(POST, 4))));
      assertEquals(1, range(table, POST, 2)[1] - range(table, POST, 2)[0]);
      assertEquals(0, range(table, MID, 2)[1], "the second slot does nothing there");
      assertEquals(
          List.of(first[0], first[1]), IntStream.of(range(table, MID, 1)).boxed().toList());
      assertEquals(ranges, table.ranges(MID.kind(), MID.layer()));
      assertEquals(ops, table.ops());
      assertEquals(layout, table.layout());
      assertNull(table.ranges(Site.Kind.Z, 0));

      table.remove(1);
      assertEquals(0, range(table, MID, 1)[1], "another that gets the number would do it too");
      assertEquals(1, table.size());
      assertEquals(1, table.add(List.of(add(MID, 5))));
      assertEquals(layout, table.layout());
      table.add(List.of(new Edit.Heads(new Site(Site.Kind.Z, 0), new int[] {1}, 0)));
      assertNotEquals(layout, table.layout(), "a site more has a table");
    }
  }

  @Test
  void equalValuesHaveOneCopy() {
    UploadCounter uploads = new UploadCounter(device);
    try (SteeringTable table = new SteeringTable(uploads, List.of(List.of(add(MID, 1))), HEADS)) {
      long vector = 4 * D;
      assertEquals(vector, copied(uploads, table));
      int second = table.add(List.of(add(MID, 1)));
      assertEquals(0, copied(uploads, table));
      int third = table.add(List.of(add(MID, -1)));
      assertEquals(vector, copied(uploads, table));
      table.remove(third);
      table.remove(1);
      table.add(List.of(add(POST, 1)));
      assertEquals(0, copied(uploads, table), "the second still has it");
      table.remove(second);
      table.remove(1);
      table.add(List.of(add(MID, 1)));
      assertEquals(vector, copied(uploads, table), "nobody had it any more");

      Edit.HeadAffine maps = AttentionRun.maps(AttentionRun.config(2, 2, 8, 0), 1, 0);
      Edit.HeadAffine same = // other arrays
          new Edit.HeadAffine(
              maps.site(), maps.heads().clone(), maps.a().clone(), maps.b().clone(), "");
      table.add(List.of(maps));
      assertTrue(copied(uploads, table) >= 4L * maps.a().length);
      table.add(List.of(same));
      assertEquals(0, copied(uploads, table));
      float[] others = same.b().clone();
      others[0]++;
      table.add(List.of(new Edit.HeadAffine(same.site(), same.heads(), same.a(), others, "")));
      assertTrue(copied(uploads, table) >= 4L * maps.a().length);
    }
  }

  /** Bytes of payloads that are copied when a table is brought up to date. */
  private static long copied(UploadCounter uploads, SteeringTable table) {
    assertEquals(List.of(), uploads.copies(), "nothing goes up as slots come");
    table.layout();
    List<Long> copies = new ArrayList<>(uploads.copies());
    copies.removeLast(); // the ranges, which come last
    copies.removeLast(); // the operations, before them
    return copies.stream().mapToLong(Long::longValue).sum();
  }

  @Test
  void manySlotsAreCopiedTogetherAndOnce() {
    UploadCounter uploads = new UploadCounter(device);
    try (SteeringTable table = new SteeringTable(uploads, List.of(), HEADS)) {
      table.layout();
      uploads.copies();
      int sites = 20;
      int plans = 30;
      for (int plan = 0; plan < plans; plan++) {
        List<Edit> edits = new ArrayList<>();
        for (int layer = 0; layer < sites; layer++) {
          float[] vector = new float[64];
          vector[layer] = plan;
          edits.add(new Edit.Add(new Site(Site.Kind.RESID_POST, layer), vector, 1));
        }
        table.add(edits);
        table.add(edits); // for another kind of tokens
      }
      assertEquals(List.of(), uploads.copies(), "nothing goes up as slots come");
      table.layout();
      // The first plan's vectors are all zeros, and one.
      long values = 4L * 64 * (sites * (plans - 1) + 1);
      List<Long> copies = new ArrayList<>(uploads.copies());
      copies.removeLast(); // the ranges, in one go
      copies.removeLast(); // and so the operations
      assertEquals(values, copies.stream().mapToLong(Long::longValue).sum(), "vectors once");
      assertTrue(copies.size() <= 3, "a copy for each block of memory: " + copies);
      for (int plan = 0; plan < plans; plan++) {
        for (int layer = 0; layer < sites; layer++) {
          int[] range = range(table, new Site(Site.Kind.RESID_POST, layer), 2 * plan + 1);
          assertEquals(1, range[1] - range[0]);
        }
      }
      table.ops();
      assertEquals(List.of(), uploads.copies(), "all is there");
    }
  }

  @Test
  void whatIsMuchDoesNotWaitForTheOthers() {
    UploadCounter uploads = new UploadCounter(device);
    try (SteeringTable table = new SteeringTable(uploads, List.of(), HEADS)) {
      table.layout();
      uploads.copies();
      int width = 1 << 14;
      for (int slot = 1; slot <= 40; slot++) { // 2.5 MiB
        float[] vector = new float[width];
        vector[0] = slot;
        table.add(List.of(new Edit.Add(POST, vector, 1)));
        table.uploadMuch();
      }
      long gone = uploads.copies().stream().mapToLong(Long::longValue).sum();
      assertEquals(2L << 20, gone);
      int last = table.add(List.of(add(MID, 1)));
      table.remove(last); // and with it what waits
      table.layout();
      List<Long> copies = uploads.copies();
      long rest = copies.subList(0, copies.size() - 2).stream().mapToLong(Long::longValue).sum();
      assertEquals(40L * 4 * width, gone + rest);
    }
  }

  @Test
  void memoryIsFlatHoweverManySlotsComeAndGo() {
    Deque<Integer> here = new ArrayDeque<>();
    try (SteeringTable table = new SteeringTable(device, List.of(), HEADS)) {
      int buffers = 0;
      long bytes = 0;
      int layout = 0;
      for (int i = 0; i < 10_000; i++) {
        List<Edit> edits = new ArrayList<>();
        for (int j = 0; j <= i % 7; j++) {
          edits.add(add(j % 2 == 0 ? MID : POST, i + j / 8f));
        }
        here.addLast(table.add(edits));
        if (here.size() > 140) {
          table.remove(here.removeFirst());
        }
        if (i % 7 == 0 && i >= 7 * 140) {
          if (buffers == 0) {
            buffers = device.buffers();
            bytes = device.bytes();
            layout = table.layout();
          }
          assertEquals(buffers, device.buffers());
          assertEquals(bytes, device.bytes());
          assertEquals(layout, table.layout(), "nothing has moved");
        }
      }
      assertTrue(bytes > 4 * 140 * 64, "few bytes: " + bytes);
    }
  }

  @Test
  void aSlotThatDoesNotFitLeavesTheOthers() {
    List<Edit> both = List.of(add(MID, 1), add(POST, 1));
    try (SteeringTable table = new SteeringTable(device, List.of(both), HEADS)) {
      int[] before = range(table, MID, 1);
      List<Edit> many = new ArrayList<>();
      for (int i = 0; i < 100; i++) { // more than the operations have room for
        float[] large = new float[4096];
        large[0] = i;
        many.add(new Edit.Add(i % 2 == 0 ? MID : POST, large, 1));
      }
      int allocations = device.assertNothingLeaks(() -> table.remove(table.add(many)));
      assertTrue(allocations > 2, "blocks for their vectors, and room for operations");
      assertEquals(1, table.size());
      assertEquals(before[1], range(table, MID, 1)[1]);
    }
  }

  /** An edit that the host queues. */
  private record Waiting(Site site) implements Edit.Queued {
    @Override
    public String op() {
      return "waiting";
    }

    @Override
    public Edit scaled(double strength) {
      return this;
    }

    @Override
    public int reported() {
      return 3;
    }

    @Override
    public Object together() {
      return "all";
    }
  }

  /** Remembers who has joined; two at most. */
  private static final class Queued implements SlotEdit {
    final int capacity;
    final Set<Integer> slots = new TreeSet<>();

    Queued(int capacity) {
      this.capacity = capacity;
    }

    @Override
    public boolean join(SteeringTable.Placed placed) {
      return (slots.size() < 2 || placed.slot() > 40) && slots.add(placed.slot());
    }

    @Override
    public void leave(int slot) {
      assertTrue(slots.remove(slot));
    }

    @Override
    public boolean solves(int slot) {
      return false;
    }

    @Override
    public void enqueue(Rows rows) {}
  }

  /** A table whose queued edits are remembered as they are made. */
  private SteeringTable queueing(List<Queued> made) {
    return new SteeringTable(
        device,
        HEADS,
        new ArrayHash(),
        (scope, slots, edits) -> {
          scope.allocate(8);
          made.add(new Queued(slots));
          return made.getLast();
        });
  }

  @Test
  void whatIsQueuedStaysWhereSlotsComeAndGo() {
    List<Queued> made = new ArrayList<>();
    try (SteeringTable table = queueing(made)) {
      table.add(List.of(new Waiting(POST), add(POST, 1)));
      int layout = table.layout();
      assertEquals(1, made.size());
      assertEquals(2, table.queued(POST.kind(), POST.layer()).size(), "it and the add after it");
      List<QueuedEdit> before = table.queued(POST.kind(), POST.layer());

      for (int i = 0; i < 20; i++) {
        int second =
            table.add(
                i % 2 == 0
                    ? List.of(new Waiting(POST), add(POST, 2 + i))
                    : List.of(new Waiting(POST)));
        assertEquals(layout, table.layout());
        assertEquals(Set.of(1, second), made.getFirst().slots);
        table.remove(second);
        assertEquals(layout, table.layout());
        assertEquals(Set.of(1), made.getFirst().slots);
      }
      assertEquals(before, table.queued(POST.kind(), POST.layer()));
      assertEquals(1, made.size());
    }
  }

  @Test
  void whatIsQueuedIsLaidOutAnewWhereItDoesNotServe() {
    List<Queued> made = new ArrayList<>();
    try (SteeringTable table = queueing(made)) {
      table.add(List.of(new Waiting(POST), add(POST, 1)));
      int layout = table.layout();
      int turned = table.add(List.of(add(POST, 2), new Waiting(POST)));
      assertNotEquals(layout, table.layout(), "what comes first there has a table now");
      assertEquals(1, made.size());
      assertEquals(Set.of(1, turned), made.getLast().slots);
      layout = table.layout();

      table.remove(table.add(List.of(add(POST, 3))));
      assertEquals(layout, table.layout());
      int third = table.add(List.of(new Waiting(POST)));
      assertThrows(IllegalStateException.class, table::layout, "it has room for two");
      table.remove(third);
      layout = table.layout();
      assertEquals(3, made.size());

      int twice = table.add(List.of(new Waiting(POST), new Waiting(POST)));
      table.remove(turned);
      assertNotEquals(layout, table.layout(), "a round more");
      assertEquals(List.of(Set.of(1, twice), Set.of(twice)), last(made, 2));
      layout = table.layout();
      table.remove(twice);
      assertNotEquals(layout, table.layout(), "nobody is left in a round");
      assertEquals(Set.of(1), made.getLast().slots);
      assertEquals(2, table.queued(POST.kind(), POST.layer()).size());

      int asked = made.size();
      int last = 0;
      for (int i = 0; i < 100; i++) {
        last = table.add(List.of(add(MID, i)));
      }
      table.layout();
      assertEquals(asked + 1, made.size());
      assertTrue(made.getLast().capacity > last, "kernels would read beyond the table");
      int buffers = device.buffers();
      table.remove(1);
      table.layout();
      assertEquals(List.of(), table.queued(POST.kind(), POST.layer()));
      assertEquals(buffers - 2, device.buffers(), "the add's range, and what it queued");
    }
  }

  private static List<Set<Integer>> last(List<Queued> made, int count) {
    return made.subList(made.size() - count, made.size()).stream()
        .<Set<Integer>>map(each -> each.slots)
        .toList();
  }

  @Test
  void nobodyQueuesForATableOfKernelsAlone() {
    try (SteeringTable table =
        new SteeringTable(device, List.of(List.of(new Waiting(POST))), HEADS)) {
      assertThrows(IllegalArgumentException.class, table::layout);
    }
  }
}
