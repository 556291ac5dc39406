package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.cpu.CpuDevice;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class ProfileTest {
  private static final String DEVICES = "dev.halter.device.TestDevices#all";

  private static ProfiledDevice profiled(Device device) {
    return new ProfiledDevice(device, table -> {});
  }

  private static Map<String, Profile.Row> rows(ProfiledDevice device) {
    return device.profile().rows().stream()
        .collect(Collectors.toMap(Profile.Row::name, Function.identity()));
  }

  /** Takes rows {3, 0} of x [4, 5]. */
  private static float[] gather(Device device, boolean tellsBytes) {
    try (Scope scope = device.scope()) {
      float[] values = new float[20];
      for (int i = 0; i < values.length; i++) {
        values[i] = i;
      }
      Buffer x = scope.of(values);
      Buffer index = scope.of(3, 0);
      Buffer out = scope.allocate(4 * 10);
      Kernel kernel = device.kernel("gather_rows");
      if (tellsBytes) {
        device.launch(kernel, 2 * 5 * 8, Grid.of(2), 32, 0, out, x, index, 5);
      } else {
        device.launch(kernel, Grid.of(2), 32, 0, out, x, index, 5);
      }
      return out.toFloats(10);
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void launchesProductsAndCopiesAreCounted(Device plain) {
    try (ProfiledDevice device = profiled(plain);
        Scope scope = device.scope()) {
      float[] expected = gather(plain, true);
      assertEquals(List.of(), device.profile().rows());
      assertArrayEquals(expected, gather(device, true));
      assertArrayEquals(expected, gather(device, true));
      Buffer x = scope.of(1f, 2f, 3f, 4f, 5f, 6f); // [2, 3]
      Buffer w = scope.of(1f, 1f, 1f); // [1, 3]
      Buffer out = scope.allocate(8);
      device.multiply(2, 1, 3, matrix(x, 3), matrix(w, 3), new Matrix(out, DType.F32, 1));
      assertArrayEquals(new float[] {6, 15}, out.toFloats(2));
      Top top = Top.allocate(scope, Top.Sign.BOTH, 1, 2);
      device.multiplyTop(2, 1, 3, matrix(x, 3), matrix(w, 3), top);
      assertArrayEquals(new int[] {0, 0, 0, 0}, top.ids().toInts(4));
      out.clear();

      Map<String, Profile.Row> rows = rows(device);
      Profile.Row gathered = rows.get("gather_rows");
      assertEquals(2, gathered.launches());
      assertEquals(2 * 80, gathered.bytes());
      assertEquals(Profile.UNKNOWN, gathered.operations());
      assertTrue(gathered.nanoseconds() > 0, gathered.toString());
      Profile.Row product = rows.get("product by [1, 3] f32 x f32");
      assertEquals(1, product.launches());
      assertEquals(4 * (6 + 3 + 2), product.bytes());
      assertEquals(2 * 2 * 3, product.operations());
      Profile.Row best = rows.get("product's top by [1, 3] f32 x f32");
      assertEquals(4 * (6 + 3) + 4 * 8 + 4 * 8, best.bytes());
      assertEquals(2 * 2 * 3, best.operations());
      assertEquals(8, rows.get("clear").bytes());
      assertEquals(2 * (80 + 8) + 24 + 12, rows.get("copy to the device").bytes());
      assertEquals(2 * 40 + 8 + 16, rows.get("copy from the device").bytes());
      assertEquals(6, rows.size(), rows.keySet().toString());
    }
  }

  private static Matrix matrix(Buffer buffer, int columns) {
    return new Matrix(buffer, DType.F32, columns);
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void bytesThatOneLaunchDoesNotTellAreNotKnown(Device plain) {
    try (ProfiledDevice device = profiled(plain)) {
      gather(device, true);
      assertEquals(80, rows(device).get("gather_rows").bytes());
      gather(device, false);
      assertEquals(Profile.UNKNOWN, rows(device).get("gather_rows").bytes());
      gather(device, true);
      assertEquals(Profile.UNKNOWN, rows(device).get("gather_rows").bytes());
      String line = line(device.profile().table("here"), "gather_rows");
      assertEquals(List.of("3", "-", "-", "-"), List.of(line.trim().split("\\s+")).subList(2, 6));
    }
  }

  private static String line(String table, String name) {
    return table.lines().filter(line -> line.endsWith("  " + name)).findFirst().orElseThrow();
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void theTableIsToldWhenTheDeviceIsClosed(Device plain) {
    List<String> tables = new ArrayList<>();
    ProfiledDevice device = new ProfiledDevice(plain, tables::add);
    gather(device, true);
    List<Profile.Row> rows = device.profile().rows();
    device.close();
    device.close();
    assertEquals(1, tables.size());
    List<String> lines = tables.getFirst().lines().toList();
    assertEquals("profile of " + plain.description(), lines.getFirst());
    assertEquals(2 + rows.size() + 1, lines.size());
    for (int i = 0; i < rows.size(); i++) {
      assertTrue(lines.get(2 + i).endsWith("  " + rows.get(i).name()), lines.get(2 + i));
      assertTrue(i == 0 || rows.get(i - 1).nanoseconds() >= rows.get(i).nanoseconds());
    }
    List<String> total = List.of(lines.getLast().trim().split("\\s+"));
    assertEquals(List.of("100.0%", "4", "-", "-", "-", "total"), total.subList(1, 7));
  }

  @Test
  void sharesAndRatesAreOfTheTimes() {
    Profile profile = new Profile();
    profile.of("short").count(Profile.UNKNOWN, Profile.UNKNOWN);
    profile.of("short").accept(1_000_000);
    profile.of("long").count(5_000_000, 12_000_000);
    profile.of("long").count(1_000_000, 0);
    profile.of("long").accept(1_000_000);
    profile.of("long").accept(2_000_000);
    assertEquals(
        """
        profile of it
           time ms   share   launches          MB     GB/s   GFLOP/s  what
              3.00   75.0%          2         6.0      2.0       4.0  long
              1.00   25.0%          1           -        -         -  short
              4.00  100.0%          3           -        -         -  total
        """,
        profile.table("it"));
  }

  @Test
  void whereNothingRanThereIsNoTable() {
    List<String> tables = new ArrayList<>();
    new ProfiledDevice(CpuDevice.open(1), tables::add).close();
    assertEquals(List.of(), tables);
  }

  /** More launches than the timer of CUDA keeps under way. */
  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#forModels")
  void manyLaunchesAreAllCounted(Device plain) {
    try (ProfiledDevice device = profiled(plain);
        Scope scope = device.scope()) {
      Buffer x = scope.of(new float[8]);
      for (int i = 0; i < 2_000; i++) {
        x.clear();
      }
      Profile.Row clear = rows(device).get("clear");
      assertEquals(2_000, clear.launches());
      assertEquals(2_000 * 32, clear.bytes());
    }
  }

  @ParameterizedTest
  @MethodSource(DEVICES)
  void whatWouldBeAGraphIsTimedKernelByKernel(Device plain) {
    try (ProfiledDevice device = profiled(plain);
        Scope scope = device.scope()) {
      Buffer x = scope.of(1f);
      assertFalse(device.recordsGraphs());
      try (Graph graph = device.record(x::clear)) {
        assertArrayEquals(new float[] {1}, x.toFloats(1));
        graph.launch();
        graph.launch();
        assertArrayEquals(new float[] {0}, x.toFloats(1));
      }
      assertEquals(2, rows(device).get("clear").launches());
    }
  }

  @Test
  void aSystemPropertyAsksForAProfile() {
    System.setProperty(Devices.PROFILE, "true");
    try (Device device = Devices.open("cpu", 1, true)) {
      assertInstanceOf(ProfiledDevice.class, device);
      assertTrue(device.isProfiled());
    } finally {
      System.clearProperty(Devices.PROFILE);
    }
    try (Device device = Devices.open("cpu", 1, true)) {
      assertInstanceOf(CpuDevice.class, device);
      assertFalse(device.isProfiled());
    }
  }
}
