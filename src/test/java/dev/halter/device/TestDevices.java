package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cpu.Schedule;
import dev.halter.device.cuda.TestCuda;
import java.util.Arrays;
import java.util.List;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.stream.Stream;

/** The devices that tests of kernels and of models run on. */
public final class TestDevices {
  /**
   * With {@code -Dhalter.test.devices=cpu} all that there is is the CPU's own build: for a run that
   * tries another instruction set, of which the other devices know nothing.
   */
  private static final boolean OWN_BUILD_ALONE =
      "cpu".equals(System.getProperty("halter.test.devices"));

  private TestDevices() {}

  /**
   * Every device, opened when its turn comes, for
   *
   * <pre>{@code
   * @ParameterizedTest
   * @MethodSource("dev.halter.device.TestDevices#all")
   * void test(Device device)
   * }</pre>
   *
   * <p>JUnit closes each after its test. CUDA is a stand-in over host memory; on a machine with a
   * GPU, where the others have nothing new to say, it is the GPU alone.
   */
  public static Stream<Device> all() {
    return withFaithful(schedules());
  }

  /**
   * Devices for tests of whole models, which are too long for every schedule: the CPU's own build,
   * the faithful build in random order, and CUDA (the GPU alone where there is one).
   */
  public static Stream<Device> forModels() {
    return withFaithful(Stream.of(() -> CpuDevice.openFaithful(Schedule.RANDOM, 1)));
  }

  private static Stream<Device> withFaithful(Stream<Supplier<Device>> faithful) {
    Stream<Supplier<Device>> own = Stream.of(() -> CpuDevice.open(2));
    Stream<Supplier<Device>> cuda = Stream.of(TestCuda::open);
    Stream<Supplier<Device>> devices =
        OWN_BUILD_ALONE
            ? own
            : TestCuda.REAL ? cuda : Stream.concat(Stream.concat(own, faithful), cuda);
    return devices.map(Supplier::get);
  }

  /**
   * Runs the same work under every schedule of the faithful device and asserts that the results are
   * the same bit by bit: if not, a kernel lacks a barrier.
   *
   * @return the result
   */
  public static float[] assertSchedulesAgree(Function<Device, float[]> work) {
    float[][] results =
        schedules()
            .map(
                open -> {
                  try (Device device = open.get()) {
                    return work.apply(device);
                  }
                })
            .toArray(float[][]::new);
    int[][] bits = Arrays.stream(results).map(TestDevices::bits).toArray(int[][]::new);
    List<Schedule> schedules = List.of(Schedule.values());
    for (int i = 1; i < bits.length; i++) {
      assertArrayEquals(bits[0], bits[i], schedules.get(i) + " differs from FORWARD");
    }
    return results[0];
  }

  private static Stream<Supplier<Device>> schedules() {
    return Arrays.stream(Schedule.values())
        .map(schedule -> () -> CpuDevice.openFaithful(schedule, 1));
  }

  private static int[] bits(float[] values) {
    int[] bits = new int[values.length];
    Arrays.setAll(bits, i -> Float.floatToRawIntBits(values[i]));
    return bits;
  }
}
