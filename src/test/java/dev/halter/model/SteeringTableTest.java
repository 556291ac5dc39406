package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.ScarceDevice;
import dev.halter.device.Scope;
import dev.halter.device.cpu.CpuDevice;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
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
    try (SteeringTable table = new SteeringTable(device, List.of(List.of(add(MID, 1))), HEADS)) {
      int buffers = device.buffers();
      int second = table.add(List.of(add(MID, 1)));
      assertEquals(buffers, device.buffers());
      int third = table.add(List.of(add(MID, -1)));
      assertEquals(buffers + 1, device.buffers());
      table.remove(third);
      table.remove(1);
      assertEquals(buffers, device.buffers(), "the second still has it");
      table.remove(second);
      assertEquals(buffers - 1, device.buffers());

      Edit.HeadAffine maps = AttentionRun.maps(AttentionRun.config(2, 2, 8, 0), 1, 0);
      Edit.HeadAffine same = // other arrays
          new Edit.HeadAffine(
              maps.site(), maps.heads().clone(), maps.a().clone(), maps.b().clone(), "");
      table.add(List.of(maps));
      buffers = device.buffers();
      table.add(List.of(same));
      assertEquals(buffers, device.buffers());
      same.b()[0]++;
      table.add(List.of(new Edit.HeadAffine(same.site(), same.heads(), same.a(), same.b(), "")));
      assertEquals(buffers + 1, device.buffers());
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
      assertTrue(buffers > 4 * 140, "few buffers: " + buffers);
    }
  }

  @Test
  void aSlotThatDoesNotFitLeavesTheOthers() {
    List<Edit> both = List.of(add(MID, 1), add(POST, 1));
    try (SteeringTable table = new SteeringTable(device, List.of(both), HEADS)) {
      int[] before = range(table, MID, 1);
      List<Edit> many = new ArrayList<>();
      for (int i = 0; i < 100; i++) { // more than the operations have room for
        many.add(add(i % 2 == 0 ? MID : POST, 2 + i));
      }
      int allocations = device.assertNothingLeaks(() -> table.remove(table.add(many)));
      assertEquals(many.size() + 1, allocations, "their vectors, and room for operations");
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

  /** What was asked to be queued: slots of the table, then those that take part. */
  private record Asked(int slots, List<Integer> numbers) {}

  @Test
  void whatIsQueuedIsLaidOutAnewOnlyWhereItTakesPartOrTablesMove() {
    List<Asked> asked = new ArrayList<>();
    SteeringTable.Queue queue =
        (scope, slots, edits) -> {
          asked.add(new Asked(slots, edits.stream().map(SteeringTable.Placed::slot).toList()));
          return new RowEdits(device, allocated(scope), allocated(scope));
        };
    try (SteeringTable table = new SteeringTable(device, HEADS, queue)) {
      table.add(List.of(new Waiting(POST), add(POST, 1)));
      table.add(List.of(new Waiting(POST)));
      int layout = table.layout();
      assertEquals(1, asked.size());
      assertEquals(List.of(1, 2), asked.getLast().numbers);
      assertEquals(2, table.queued(POST.kind(), POST.layer()).size(), "it and the add after it");

      table.add(List.of(add(POST, 2)));
      int withTable = table.layout(); // of what comes first there
      assertNotEquals(layout, withTable);
      table.remove(table.add(List.of(add(POST, 3))));
      assertEquals(withTable, table.layout());
      assertEquals(1, asked.size());

      int buffers = device.buffers();
      table.remove(1);
      assertNotEquals(withTable, table.layout());
      assertEquals(List.of(2), asked.getLast().numbers);
      assertEquals(1, table.queued(POST.kind(), POST.layer()).size());
      assertEquals(buffers - 2, device.buffers(), "the add's vector and range");

      int last = 0;
      for (int i = 0; i < 100; i++) {
        last = table.add(List.of(add(MID, i)));
      }
      table.layout();
      assertEquals(3, asked.size());
      assertTrue(asked.getLast().slots > last, "kernels would read beyond the table");
    }
  }

  private static Buffer allocated(Scope scope) {
    return scope.allocate(8);
  }

  @Test
  void nobodyQueuesForATableOfKernelsAlone() {
    try (SteeringTable table =
        new SteeringTable(device, List.of(List.of(new Waiting(POST))), HEADS)) {
      assertThrows(IllegalArgumentException.class, table::layout);
    }
  }
}
