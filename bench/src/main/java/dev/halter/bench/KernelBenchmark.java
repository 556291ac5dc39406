package dev.halter.bench;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.device.Profile;
import dev.halter.device.ProfiledDevice;
import dev.halter.model.TimedKernels;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.AuxCounters;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * Single portable kernels at the shapes of one layer of Llama-3.1-8B. {@code bytes} are those that
 * the launching class tells a profile, by the kernel's contract; divided by the time they are the
 * rate, whose floor {@link BandwidthBenchmark} measures.
 *
 * <p>The same buffers are used over and over: what fits the caches runs above the memory's rate.
 *
 * <p>HOW TO RUN: {@code bench/kernels}, which runs both and divides.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 2, time = 300, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 3, time = 300, timeUnit = TimeUnit.MILLISECONDS)
public class KernelBenchmark {
  @Param({"cpu"})
  public String device;

  @Param({
    "rmsnorm",
    "add_rmsnorm",
    "residual_add",
    "gated_mlp",
    "qkv_bias_norm",
    "rope_append",
    "attention",
    "embed",
    "gather_rows",
    "convert",
    "sample",
    "top_tokens",
    "neuron_vectors",
    "transpose"
  })
  public String kernel;

  @Param({"F32", "BF16"})
  public DType type;

  @Param({"1", "32", "512"})
  public int rows;

  private Device opened;
  private Runnable launch;
  private long bytesOfLaunch;

  /** What one call did. */
  @AuxCounters(AuxCounters.Type.OPERATIONS)
  @State(Scope.Thread)
  public static class Work {
    public double bytes;
  }

  @Setup
  public void open() {
    bytesOfLaunch = bytesOfLaunch();
    opened = Devices.open(device, 0, true);
    launch = TimedKernels.of(opened.scope(), kernel, type, rows); // freed with the device
  }

  /** By the profile of a launch. */
  private long bytesOfLaunch() {
    try (ProfiledDevice profiled =
            new ProfiledDevice(Devices.open(device, 0, true), table -> {});
        dev.halter.device.Scope scope = profiled.scope()) {
      TimedKernels.of(scope, kernel, type, rows).run();
      return profiled.profile().rows().stream()
          .filter(row -> row.name().startsWith(kernel))
          .mapToLong(Profile.Row::bytes)
          .sum();
    }
  }

  @Benchmark
  public void launch(Work work) {
    launch.run();
    opened.synchronize();
    work.bytes += bytesOfLaunch;
  }

  @TearDown
  public void close() {
    opened.close();
  }
}
