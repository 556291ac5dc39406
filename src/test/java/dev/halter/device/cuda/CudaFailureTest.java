package dev.halter.device.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Arrival;
import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Graph;
import dev.halter.device.Grid;
import dev.halter.device.HostCopy;
import dev.halter.device.OutOfDeviceMemoryException;
import dev.halter.device.cuda.TestCuda.StandIn;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import jcuda.driver.CUcontext;
import jcuda.driver.CUdevice;
import jcuda.driver.CUresult;
import jcuda.driver.JCudaDriver;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;

/** What only the stand-in can show: broken machines, and mistakes that a GPU lets pass. */
@DisabledIfSystemProperty(named = "halter.test.cuda", matches = "real")
class CudaFailureTest {
  private static final int CUDA_ERROR_NO_BINARY_FOR_GPU = 209;
  private static final int CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222;

  @BeforeEach
  @AfterEach
  void asNew() {
    StandIn.reset();
    System.clearProperty("halter.sync");
  }

  private static String reason() {
    return assertThrows(DeviceException.class, StandIn::open).getMessage();
  }

  @Test
  void withoutACardThereIsNoDevice() {
    StandIn.set("devices", 0);
    assertTrue(reason().startsWith("no CUDA device"), reason());
  }

  @Test
  void aCardIsTheOneOfItsNumber() {
    StandIn.set("devices", 2);
    try (Device first = StandIn.open(0)) {
      assertEquals("CUDA stand-in (sm_75)", first.description());
    }
    try (Device second = StandIn.open(1)) {
      assertEquals("CUDA stand-in 1 (sm_75)", second.description());
    }
    String none = assertThrows(DeviceException.class, () -> StandIn.open(2)).getMessage();
    assertEquals("there is no CUDA device 2: the driver shows 0 to 1", none);
    StandIn.set("devices", 1);
    none = assertThrows(DeviceException.class, () -> StandIn.open(1)).getMessage();
    assertEquals("there is no CUDA device 1: the driver shows one, 0", none);
    assertEquals("", StandIn.report());
  }

  @Test
  void aDriverTooOldForTheKernelsIsNamed() {
    StandIn.set("image", CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    assertTrue(reason().contains("the NVIDIA driver (CUDA 13.0) cannot read"), reason());
    StandIn.set("image", CUDA_ERROR_NO_BINARY_FOR_GPU);
    assertTrue(reason().contains("holds no code for CUDA stand-in (sm_75)"), reason());
    assertEquals("", StandIn.report(), "a failed opening leaves nothing behind");
  }

  @Test
  void kernelsThatWereNotBuiltAreNamed(@TempDir Path empty) {
    var error = assertThrows(DeviceException.class, () -> CudaDevice.open(0, empty));
    assertTrue(error.getMessage().contains("built without nvcc"), error.getMessage());
    error = assertThrows(DeviceException.class, () -> CudaDevice.open(0, empty.resolve("none")));
    assertTrue(error.getMessage().contains("built without nvcc"), error.getMessage());
  }

  @Test
  void aDamagedFatbinIsNamed(@TempDir Path directory) throws Exception {
    Path fatbin = Files.writeString(directory.resolve("broken.fatbin"), "not a fatbin");
    var error = assertThrows(DeviceException.class, () -> CudaDevice.open(0, directory));
    assertTrue(error.getMessage().contains(fatbin.toString()), error.getMessage());
  }

  @Test
  void kernelsTunedForOtherCardsAreLeftOut(@TempDir Path directory) throws Exception {
    Files.writeString(directory.resolve("gemm_sm90.fatbin"), "stand-in");
    StandIn.set("image", CUDA_ERROR_NO_BINARY_FOR_GPU);
    try (Device device = CudaDevice.open(0, directory)) {
      assertThrows(IllegalArgumentException.class, () -> device.kernel("gather_rows"));
    }
  }

  @Test
  void aMissingCublasIsAnErrorThatNamesWhereItWasLookedFor(@TempDir Path empty) {
    var error = assertThrows(DeviceException.class, () -> Cublas.load(List.of(empty.toString())));
    for (String name : List.of("libcublas.so.12", "libcublas.so.13")) {
      assertTrue(error.getMessage().contains(empty.resolve(name).toString()), error.getMessage());
    }
    assertTrue(error.getMessage().contains("-Dhalter.cublas="), error.getMessage());
  }

  @Test
  void memoryThatRunsOutSaysHowMuchIsFree() {
    StandIn.set("memory", 64 << 20);
    try (Device device = StandIn.open()) {
      long free = device.memory().free();
      assertTrue(free < 64 << 20);
      var error = assertThrows(OutOfDeviceMemoryException.class, () -> device.allocate(free + 1));
      assertTrue(error.getMessage().contains("%,d of".formatted(free)), error.getMessage());
      device.allocate(free).close();
    }
    assertEquals("", StandIn.report());
  }

  @Test
  void pinnedMemoryThatRunsOutCostsWhatNeedsIt() {
    int bytes = 4 * Downloads.PIECE;
    long opened = 4L * Staging.HALF + Downloads.PIECE; // two ways up, and what is small down
    byte[] values = new byte[bytes];
    StandIn.set("pinned", opened);
    try (Device device = StandIn.open();
        Buffer buffer = device.allocate(bytes)) {
      buffer.clear();
      var error =
          assertThrows(DeviceException.class, () -> buffer.copyTo(MemorySegment.ofArray(values)));
      assertTrue(error.getMessage().contains("pinned host memory"), error.getMessage());
      buffer.set(7);
      assertEquals(7, buffer.toInts(1)[0]); // what is small goes on
      StandIn.set("pinned", 1 << 30);
      buffer.copyTo(MemorySegment.ofArray(values));
      assertEquals(7, values[0]);
    }
    assertEquals("", StandIn.report(), "nothing is left");
    StandIn.set("pinned", opened - 1);
    assertTrue(reason().contains("pinned host memory"), reason());
    assertEquals("", StandIn.report(), "a failed opening leaves nothing behind");
  }

  @Test
  void whatFailedOnTheCardShowsInArrivals() {
    int[] values = new int[Downloads.PIECE];
    try (Device device = StandIn.open()) {
      Buffer buffer = device.allocate(4L * values.length);
      Buffer freed = device.allocate(36);
      freed.close();
      launch(device, freed);
      Arrival arrival = buffer.send(List.of(HostCopy.over(MemorySegment.ofArray(values), 0)));
      String message = assertThrows(DeviceException.class, arrival::await).getMessage();
      assertTrue(message.contains("CUDA_ERROR_ILLEGAL_ADDRESS (700)"), message);
    }
    assertEquals("kernel gather_rows: argument 0 points into freed memory\n", StandIn.report());
  }

  @Test
  void workIsQueuedAndNotWaitedFor() {
    try (Device device = StandIn.open();
        Buffer buffer = device.allocate(36)) {
      buffer.clear();
      launch(device, buffer);
      assertEquals(0, StandIn.runs());
      device.synchronize();
      assertEquals(1, StandIn.runs());
    }
  }

  @Test
  void whatFailsOnTheCardShowsWhenWaitedFor() {
    String message = failure();
    assertTrue(message.contains("CUDA_ERROR_ILLEGAL_ADDRESS (700)"), message);
    assertTrue(message.contains("-Dhalter.sync=true"), message);
    assertFalse(message.contains("gather_rows"), message);
  }

  @Test
  void withSyncTheFailingKernelIsNamed() {
    System.setProperty("halter.sync", "true");
    String message = failure();
    assertTrue(message.contains("kernel gather_rows failed"), message);
  }

  /** Launches on a freed buffer. */
  private static String failure() {
    String message;
    try (Device device = StandIn.open();
        Graph graph = device.record(() -> {})) {
      Buffer buffer = device.allocate(36);
      buffer.close();
      message =
          assertThrows(
                  DeviceException.class,
                  () -> {
                    launch(device, buffer);
                    device.synchronize();
                  })
              .getMessage();
      String later = assertThrows(DeviceException.class, graph::launch).getMessage();
      assertTrue(later.contains("CUDA_ERROR_ILLEGAL_ADDRESS (700)"), later);
      assertTrue(later.contains("-Dhalter.sync=true"), later);
    }
    assertEquals("kernel gather_rows: argument 0 points into freed memory\n", StandIn.report());
    return message;
  }

  private static void launch(Device device, Buffer buffer) {
    device.launch(
        device.kernel("gather_rows"), Grid.of(1), 32, 0, buffer, buffer.slice(12), buffer, 3);
  }

  @Test
  void copiesBeyondAnAllocationAreReported() {
    try (Device device = StandIn.open();
        Buffer buffer = device.allocate(100)) {
      MemorySegment host = MemorySegment.ofArray(new byte[101]);
      Buffer beyond = buffer.extend(1);
      assertThrows(DeviceException.class, () -> beyond.copyFrom(host));
      assertThrows(DeviceException.class, () -> beyond.slice(1).copyTo(host.asSlice(1)));
    }
    assertEquals(
        """
        copy from the host: 101 bytes at 0 of an allocation of 100 bytes
        copy to the host: 100 bytes at 1 of an allocation of 100 bytes
        """,
        StandIn.report());
  }

  @Test
  void writingPastAnAllocationIsReportedWhenItIsFreed() {
    try (Device device = StandIn.open();
        Buffer x = device.allocate(4 * 4);
        Buffer index = device.allocate(4)) {
      x.clear();
      index.set(0);
      try (Buffer small = device.allocate(3 * 4)) {
        device.launch(device.kernel("gather_rows"), Grid.of(1), 32, 0, small, x, index, 4);
      }
    }
    assertEquals("something wrote 4 bytes past an allocation of 12 bytes\n", StandIn.report());
  }

  @Test
  void whatIsLeftWhenTheContextEndsIsReported() {
    CUcontext context = new CUcontext();
    CUdevice device = new CUdevice();
    try (Device other = StandIn.open()) { // so that JCuda is loaded and the driver started
      assertEquals("cuda", other.kind());
    }
    assertEquals(CUresult.CUDA_SUCCESS, JCudaDriver.cuDeviceGet(device, 0));
    assertEquals(CUresult.CUDA_SUCCESS, JCudaDriver.cuDevicePrimaryCtxRetain(context, device));
    assertEquals(CUresult.CUDA_SUCCESS, JCudaDriver.cuCtxSetCurrent(context));
    assertEquals(CUresult.CUDA_SUCCESS, JCudaDriver.cuMemAlloc(new Address(), 16));
    assertEquals(CUresult.CUDA_SUCCESS, JCudaDriver.cuDevicePrimaryCtxRelease(device));
    assertEquals("1 allocations left when the context was destroyed\n", StandIn.report());
  }
}
