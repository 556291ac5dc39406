package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cpu.Schedule;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class ScopeTest {
  private final ScarceDevice device = new ScarceDevice(CpuDevice.openFaithful(Schedule.FORWARD, 1));

  @AfterEach
  void close() {
    device.close();
  }

  @Test
  void everythingEndsTogetherTheLastFirst() {
    List<String> closed = new ArrayList<>();
    try (Scope scope = device.scope()) {
      scope.allocate(4);
      scope.<AutoCloseable>add(() -> closed.add("first, with " + device.buffers()));
      assertArrayEquals(new int[] {1, 2}, scope.of(1, 2).toInts(2));
      assertArrayEquals(new float[] {3}, scope.of(3f).toFloats(1));
      scope.<AutoCloseable>add(() -> closed.add("second, with " + device.buffers()));
      assertEquals(3, device.buffers());
    }
    assertEquals(List.of("second, with 3", "first, with 1"), closed);
    assertEquals(0, device.buffers());
  }

  @Test
  void whatCameBeforeAFailingAllocationIsFreed() {
    int allocations =
        device.assertNothingLeaks(
            () -> {
              try (Scope scope = device.scope()) {
                scope.allocate(8);
                scope.of(1f);
                scope.of(2, 3);
              }
            });
    assertEquals(3, allocations);
  }

  @Test
  void aBufferMayEndBeforeItsScope() {
    try (Scope scope = device.scope()) {
      scope.allocate(8).close();
      assertEquals(0, device.buffers());
      scope.allocate(8);
    }
    assertEquals(0, device.buffers());
  }

  @Test
  void theRestIsFreedWhereClosingFails() {
    IllegalStateException failure = new IllegalStateException("no");
    Scope scope = device.scope();
    scope.allocate(4);
    scope.<AutoCloseable>add(
        () -> {
          throw failure;
        });
    scope.allocate(4);
    assertSame(failure, assertThrows(IllegalStateException.class, scope::close));
    assertEquals(0, device.buffers());
  }

  @Test
  void whatFailsWhileAFailureIsHandledIsAddedToIt() {
    RuntimeException first = new RuntimeException("first");
    Exception second = new Exception("second");
    Scope scope = device.scope();
    scope.allocate(4);
    scope.<AutoCloseable>add(
        () -> {
          throw second;
        });
    scope.closeAfter(first);
    assertSame(second, first.getSuppressed()[0]);
    assertEquals(0, device.buffers());
  }

  @Test
  void aClosedScopeTakesNothing() {
    Scope scope = device.scope();
    scope.close();
    scope.close();
    assertThrows(IllegalStateException.class, () -> scope.allocate(4));
    assertEquals(0, device.buffers());
  }
}
