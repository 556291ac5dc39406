package dev.halter.snippets;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Devices;
import dev.halter.device.Scope;
import dev.halter.device.cpu.CpuDevice;
import org.junit.jupiter.api.Test;

/** What the pages of {@code dev.halter.device} and its rooms show. */
class DeviceSnippetsTest {
  @Test
  void scope() {
    float[] read;
    // @start region="scope"
    try (Device device = Devices.open("cpu", 2, true);
        Scope scope = device.scope()) {
      Buffer values = scope.of(new float[] {1, 2, 3});
      read = values.toFloats(3); // waits for what was queued before
    } // frees the buffer, then the device
    // @end
    assertArrayEquals(new float[] {1, 2, 3}, read);
  }

  @Test
  void cpu() {
    int[] read;
    // @start region="cpu"
    try (Device device = CpuDevice.open(2);
        Buffer buffer = device.allocate(16)) {
      buffer.set(new int[] {1, 2, 3, 4});
      read = buffer.toInts(4);
    }
    // @end
    assertArrayEquals(new int[] {1, 2, 3, 4}, read);
  }

  @Test
  void cuda() {
    // @start region="cuda"
    Devices.Attempt cuda = Devices.tryCuda();
    if (cuda.device() == null) {
      System.out.println("no CUDA: " + cuda.reason());
    } else {
      cuda.device().close();
    }
    // @end
    assertNotEquals(cuda.device() == null, cuda.reason() == null);
  }
}
