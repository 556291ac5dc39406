package dev.halter.device.cpu;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class FaithfulDeviceTest {

  /** Barriers, warps, schedules and mistakes in kernels: native/test/faithful. */
  @Test
  void nativeTestsOfBlocksPass() throws IOException, InterruptedException {
    Path test = Path.of(System.getProperty("halter.native"), "test", "faithful-test");
    Process process = new ProcessBuilder(test.toString()).redirectErrorStream(true).start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), output);
  }

  @ParameterizedTest
  @EnumSource
  void memoryIsNanUntilItIsWritten(Schedule schedule) {
    try (CpuDevice device = CpuDevice.openFaithful(schedule, 3)) {
      Buffer x = device.allocate(12);
      assertArrayEquals(new float[] {Float.NaN, Float.NaN, Float.NaN}, x.toFloats(3));
      x.clear();
      assertArrayEquals(new float[3], x.toFloats(3));
    }
  }

  @ParameterizedTest
  @EnumSource
  void writingPastTheEndIsReported(Schedule schedule) {
    try (CpuDevice device = CpuDevice.openFaithful(schedule, 3)) {
      Buffer in = device.allocate(16);
      in.set(1f, 2f, 3f, 4f);
      Buffer out = device.allocate(6);
      Kernel kernel = device.kernel("convert_f32_bf16");
      device.launch(kernel, Grid.of(1), 32, 0, out, in, 4L);
      DeviceException e = assertThrows(DeviceException.class, out::close);
      assertTrue(e.getMessage().contains("past the end of a buffer of 6 bytes"), e.getMessage());
      in.close(); // which is whole
    }
  }

  @Test
  void closedBuffersCannotBeLaunchedWith() {
    try (CpuDevice device = CpuDevice.openFaithful(Schedule.FORWARD, 0)) {
      Buffer in = device.allocate(16);
      Buffer out = device.allocate(8);
      Kernel kernel = device.kernel("convert_f32_bf16");
      device.launch(kernel, Grid.of(1), 32, 0, out, in, 4L);
      in.close();
      assertThrows(
          DeviceException.class, () -> device.launch(kernel, Grid.of(1), 32, 0, out, in, 4L));
    }
  }

  @Test
  void openBuffersAreCounted() {
    try (CpuDevice device = CpuDevice.openFaithful(Schedule.FORWARD, 0)) {
      Buffer first = device.allocate(100);
      Buffer second = device.allocate(28);
      assertEquals(128, device.allocated());
      first.close();
      assertEquals(28, device.allocated());
      second.close();
      assertEquals(0, device.allocated());
    }
  }

  /** Besides, the faithful build runs some that are for GPUs only: those of *_smNN.cu. */
  @Test
  void bothBuildsHaveTheSamePortableKernels() {
    try (Device solo = CpuDevice.open(1);
        Device faithful = CpuDevice.openFaithful(Schedule.FORWARD, 0)) {
      List<String> tested = new ArrayList<>(kernels(faithful));
      tested.removeIf(name -> name.matches(".*_sm[0-9]+.*"));
      assertEquals(kernels(solo), tested);
    }
  }

  /** As the message about an unknown kernel lists them. */
  private static List<String> kernels(Device device) {
    String message =
        assertThrows(IllegalArgumentException.class, () -> device.kernel("")).getMessage();
    return List.of(message.substring(message.indexOf(": ") + 2).split(", "));
  }
}
