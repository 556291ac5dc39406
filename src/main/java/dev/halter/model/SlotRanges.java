package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import java.lang.foreign.MemorySegment;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;

/**
 * For each steered site the array {@code ranges[slot] = {begin, end}}, all in one device buffer. A
 * slot that comes writes one range at each of its sites: these are collected on the host, and what
 * lies from the first to the last of them goes to the device in one copy.
 */
final class SlotRanges implements AutoCloseable {
  private static final int FIRST_SITES = 4;

  private final Device device;
  private final Map<Site, Integer> rows = new HashMap<>();
  private final Map<Site, Buffer> tables = new HashMap<>(); // views, which stay the same objects
  private int capacity; // slots
  private int[] host; // [sites, capacity, 2]
  private Buffer all;
  private int firstChanged;
  private int endChanged;

  /** Ranges of no site, for so many slots. */
  SlotRanges(Device device, int capacity) {
    this.device = device;
    this.capacity = capacity;
    this.host = new int[FIRST_SITES * 2 * capacity];
    this.all = device.allocate(4L * host.length);
    changed(0, host.length);
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
    int had = host.length / 2 / capacity;
    int slots = slot < capacity ? capacity : SteerOps.powerOfTwo(slot + 1);
    int wanted = Math.max(had, SteerOps.powerOfTwo(Math.max(1, rows.size() + more)));
    boolean moves = slots > capacity || wanted > had;
    if (moves) {
      Buffer larger = device.allocate(8L * wanted * slots);
      int[] wide = new int[2 * wanted * slots];
      for (int row = 0; row < rows.size(); row++) {
        System.arraycopy(host, 2 * row * capacity, wide, 2 * row * slots, 2 * capacity);
      }
      all.close();
      all = larger;
      host = wide;
      capacity = slots;
      changed(0, host.length);
    }
    for (Site site : sites) {
      rows.putIfAbsent(site, rows.size());
    }
    if (moves || more > 0) {
      rows.forEach((site, row) -> tables.put(site, all.slice(8L * row * capacity, 8L * capacity)));
    }
    return moves || more > 0;
  }

  /** Writes the range of a slot at a site that has ranges. */
  void set(Site site, int slot, int begin, int end) {
    int at = 2 * (rows.get(site) * capacity + slot);
    host[at] = begin;
    host[at + 1] = end;
    changed(at, at + 2);
  }

  private void changed(int from, int to) {
    firstChanged = endChanged == 0 ? from : Math.min(firstChanged, from);
    endChanged = Math.max(endChanged, to);
  }

  /** Brings the device up to date. */
  void upload() {
    if (endChanged > 0) {
      long bytes = 4L * (endChanged - firstChanged);
      MemorySegment changed = MemorySegment.ofArray(host).asSlice(4L * firstChanged, bytes);
      all.slice(4L * firstChanged, bytes).copyFrom(changed);
      endChanged = 0;
    }
  }

  @Override
  public void close() {
    all.close();
  }
}
