package dev.halter.device.cuda;

import dev.halter.device.Buffer;
import dev.halter.device.DeviceException;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import java.lang.foreign.Arena;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;
import java.lang.foreign.ValueLayout;
import jcuda.driver.CUresult;

/**
 * Programmatic dependent launch: kernels that are {@link Kernel#early} begin while the launch
 * before still runs, and wait themselves. In a graph that makes edges of the same kind. Where it is
 * asked for it is tried once, recorded; where card or driver refuses, all launches follow one
 * another.
 */
final class Overlap {
  /**
   * System property: how the names of the kernels begin that may begin early, {@code all} for all
   * that can, or {@code off}. {@code auto}, the default, is {@code all} on the cards whose products
   * of few rows are made for it (doc/gpu.md), and else {@code off}.
   */
  private static final String PROPERTY = "halter.pdl";

  private static final int CAPABILITY = 90;

  /** CUDA 12.3: edges between kernels that overlap in a graph. */
  private static final int PROGRAMMATIC_EDGES = 12_030;

  private static final int PROGRAMMATIC_STREAM_SERIALIZATION = 6; // CUlaunchAttributeID

  /** cuda.h's CUlaunchAttribute. */
  private static final StructLayout ATTRIBUTE =
      MemoryLayout.structLayout(
          ValueLayout.JAVA_INT.withName("id"),
          MemoryLayout.paddingLayout(4),
          ValueLayout.JAVA_INT.withName("value"),
          MemoryLayout.paddingLayout(60));

  /** cuda.h's CUlaunchConfig. */
  private static final StructLayout CONFIG =
      MemoryLayout.structLayout(
          MemoryLayout.sequenceLayout(7, ValueLayout.JAVA_INT), // grid, block, shared memory
          MemoryLayout.paddingLayout(4),
          ValueLayout.JAVA_LONG.withName("stream"),
          ValueLayout.JAVA_LONG.withName("attributes"),
          ValueLayout.JAVA_INT.withName("count"),
          MemoryLayout.paddingLayout(4));

  private final Driver driver;
  private final MemorySegment config;
  private final String wanted;
  private final String refusal; // null: it is on

  /**
   * @param scratch device memory that nobody reads
   */
  Overlap(
      Driver driver,
      Streams streams,
      int capability,
      Modules modules,
      Buffer scratch,
      Arena arena) {
    this.driver = driver;
    MemorySegment attribute = arena.allocate(ATTRIBUTE);
    attribute.set(ValueLayout.JAVA_INT, 0, PROGRAMMATIC_STREAM_SERIALIZATION);
    attribute.set(ValueLayout.JAVA_INT, offset(ATTRIBUTE, "value"), 1);
    this.config = arena.allocate(CONFIG);
    config.set(ValueLayout.JAVA_LONG, offset(CONFIG, "stream"), streams.work.value());
    config.set(ValueLayout.JAVA_LONG, offset(CONFIG, "attributes"), attribute.address());
    config.set(ValueLayout.JAVA_INT, offset(CONFIG, "count"), 1);
    String asked = System.getProperty(PROPERTY, "auto");
    this.wanted = asked.equals("auto") ? capability == CAPABILITY ? "all" : "off" : asked;
    this.refusal =
        wanted.equals("off")
            ? "-D%s=%s".formatted(PROPERTY, asked)
            : refusal(streams, capability, modules, scratch);
  }

  private static long offset(StructLayout layout, String name) {
    return layout.byteOffset(MemoryLayout.PathElement.groupElement(name));
  }

  private String refusal(Streams streams, int capability, Modules modules, Buffer scratch) {
    if (capability < CAPABILITY) {
      return "the card is older than sm_90";
    }
    if (!driver.launchesWithAttributes() || Context.driverNumber() < PROGRAMMATIC_EDGES) {
      return "the driver is older than CUDA 12.3";
    }
    // Copies of one word within the scratch memory, of which the second may begin early.
    scratch.slice(0, 256).clear();
    Kernel kernel = modules.kernel("gather_rows");
    Driver.Function function = modules.function(kernel, 32, 0);
    MemorySegment packed =
        kernel.pack(scratch.slice(0, 4), scratch.slice(64, 4), scratch.slice(128, 4), 1);
    int[] status = new int[2];
    try {
      streams
          .record(
              () -> {
                for (int i = 0; i < status.length; i++) {
                  status[i] = launch(function, Grid.of(1), 32, 0, packed);
                }
              })
          .close();
    } catch (DeviceException e) {
      return "graphs refuse it: " + e.getMessage();
    }
    int worst = Math.max(status[0], status[1]);
    return worst == CUresult.CUDA_SUCCESS ? null : "the driver refuses it: " + Driver.error(worst);
  }

  /** Whether a kernel's launches are to begin early. */
  boolean takes(Kernel kernel) {
    return refusal == null
        && kernel.isEarly()
        && (wanted.equals("all") || kernel.name().startsWith(wanted));
  }

  /** For people. */
  String description() {
    return refusal == null
        ? "launches of decode steps overlap (-D%s=%s)".formatted(PROPERTY, wanted)
        : "launches follow one another: " + refusal;
  }

  /** Launches a kernel, which may begin early; returns the driver's status. */
  int launch(
      Driver.Function function, Grid grid, int block, int sharedBytes, MemorySegment packed) {
    int[] shape = {grid.x(), grid.y(), grid.z(), block, 1, 1, sharedBytes};
    for (int i = 0; i < shape.length; i++) {
      config.setAtIndex(ValueLayout.JAVA_INT, i, shape[i]);
    }
    return driver.launch(config, function, packed);
  }
}
