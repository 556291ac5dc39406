package dev.halter.device;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Many small buffers in few large ones, for what comes and goes by the thousand: a device takes its
 * time to allocate, and before it frees it waits for all its work.
 *
 * <p>A buffer that is closed gives its place to the next of its size. What is copied to one is
 * ordered behind the work that still reads what was there before, as all that a device does. Those
 * allocated one after another lie one after another, mostly, so that one copy fills them ({@link
 * Buffer#copyFrom(List)}).
 */
public final class Pool implements AutoCloseable {
  private static final long ALIGNMENT = 64;
  private static final long LEAST = 64L << 10; // bytes of a block
  private static final long MOST = 32L << 20;

  /** The part of the free memory that a block may take when it is larger than asked for. */
  private static final int SHARE = 16;

  private final Device device;
  private final List<Block> blocks = new ArrayList<>();

  /** An empty one. */
  public Pool(Device device) {
    this.device = device;
  }

  /**
   * A large buffer: places that were given back, and behind {@code end} what none has had. Its last
   * bytes are nobody's: the next block may begin right behind it, and a copy over both would fail
   * on CUDA, which takes it for one that leaves its allocation.
   */
  private final class Block {
    final Buffer all;
    final Map<Long, Deque<Long>> free = new HashMap<>(); // addresses, by size
    long end;
    int open;

    Block(Buffer all) {
      this.all = all;
      this.end = all.address();
    }

    /** A place of so many bytes, a multiple of the alignment; 0 if there is none. */
    long take(long size) {
      Deque<Long> places = free.get(size);
      if (places != null && !places.isEmpty()) {
        open++;
        return places.removeFirst();
      }
      if (size > all.address() + all.bytes() - ALIGNMENT - end) {
        return 0;
      }
      open++;
      end += size;
      return end - size;
    }

    void giveBack(long address, long size) {
      free.computeIfAbsent(size, s -> new ArrayDeque<>()).addLast(address);
      if (--open == 0) {
        blocks.remove(this);
        all.close();
      }
    }
  }

  /**
   * Allocates {@code bytes}, contents undefined, at a 64-byte boundary.
   *
   * @throws OutOfDeviceMemoryException as {@link Device#allocate}
   */
  public Buffer allocate(long bytes) {
    long size = Math.max(1, Math.ceilDiv(bytes, ALIGNMENT)) * ALIGNMENT;
    for (Block block : blocks) {
      long address = block.take(size);
      if (address != 0) {
        return buffer(block, address, bytes, size);
      }
    }
    Block block = new Block(device.allocate(Math.max(size + ALIGNMENT, next())));
    blocks.add(block);
    return buffer(block, block.take(size), bytes, size);
  }

  /** How large a new block is: twice as large as all before, as far as memory is plenty. */
  private long next() {
    long held = blocks.stream().mapToLong(block -> block.all.bytes()).sum();
    long most = Math.min(MOST, device.memory().free() / SHARE / ALIGNMENT * ALIGNMENT);
    return Math.min(Math.max(LEAST, held), most);
  }

  private static Buffer buffer(Block block, long address, long bytes, long size) {
    BufferMemory memory =
        new ForwardingMemory(block.all.memory()) {
          @Override
          public void free(long place) {
            block.giveBack(place, size);
          }
        };
    return new Buffer(memory, address, bytes);
  }

  /** Frees all, closed or not. */
  @Override
  public void close() {
    blocks.forEach(block -> block.all.close());
    blocks.clear();
  }
}
