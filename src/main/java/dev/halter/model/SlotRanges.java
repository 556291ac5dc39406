package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;

/**
 * For each steered site the array {@code ranges[slot] = {begin, end}}, all in one table. A slot
 * that comes writes one range at each of its sites, and all of them go to the device in one copy.
 */
final class SlotRanges implements AutoCloseable {
  private static final int FIRST_SITES = 4;

  private final Device device;
  private final Map<Site, Integer> rows = new HashMap<>();
  private final Map<Site, Buffer> tables = new HashMap<>(); // views, which stay the same objects
  private int capacity; // slots
  private StagedTable all; // int2 [sites, capacity]

  /** Ranges of no site, for so many slots. */
  SlotRanges(Device device, int capacity) {
    this.device = device;
    this.capacity = capacity;
    this.all = new StagedTable(device, 8L * FIRST_SITES * capacity);
  }

  /** How many slots there is room for. */
  int capacity() {
    return capacity;
  }

  /** How many sites have ranges. */
  int sites() {
    return rows.size();
  }

  /** The ranges of a site, up to date; null where there are none. */
  Buffer of(Site site) {
    upload();
    return tables.get(site);
  }

  /**
   * Sees to it that there is a range, at first an empty one, for a slot at each of some sites.
   *
   * @return whether any site's ranges are elsewhere now, or new
   */
  boolean makeRoom(int slot, Set<Site> sites) {
    int more = (int) sites.stream().filter(site -> !rows.containsKey(site)).count();
    int had = Math.toIntExact(all.bytes() / 8 / capacity);
    int slots = slot < capacity ? capacity : SteerOps.powerOfTwo(slot + 1);
    int wanted = Math.max(had, SteerOps.powerOfTwo(Math.max(1, rows.size() + more)));
    boolean moves = slots > capacity || wanted > had;
    if (moves) {
      StagedTable larger = new StagedTable(device, 8L * wanted * slots);
      for (int row = 0; row < rows.size(); row++) {
        MemorySegment held = all.values().asSlice(8L * row * capacity, 8L * capacity);
        larger.change(8L * row * slots, held.byteSize()).copyFrom(held);
      }
      all.close();
      all = larger;
      capacity = slots;
    }
    for (Site site : sites) {
      rows.putIfAbsent(site, rows.size());
    }
    if (moves || more > 0) {
      rows.forEach(
          (site, row) -> tables.put(site, all.buffer().slice(8L * row * capacity, 8L * capacity)));
    }
    return moves || more > 0;
  }

  /** Writes the range of a slot at a site that has ranges. */
  void set(Site site, int slot, int begin, int end) {
    MemorySegment range = all.change(8L * (rows.get(site) * capacity + slot), 8);
    range.set(ValueLayout.JAVA_INT, 0, begin);
    range.set(ValueLayout.JAVA_INT, 4, end);
  }

  /** Brings the device up to date. */
  void upload() {
    all.upload();
  }

  @Override
  public void close() {
    all.close();
  }
}
