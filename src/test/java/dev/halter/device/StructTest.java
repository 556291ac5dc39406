package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.cpu.CpuDevice;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.junit.jupiter.api.Test;

class StructTest {
  private record Mixed(int count, Buffer buffer, float scale, long stride, Buffer none, int last) {}

  private record Numbers(int a, float b, int c) {}

  private record Wrong(Buffer buffer, String text) {}

  @Test
  void fieldsLieWhereTheCompilerOfTheKernelsPutsThem() {
    try (Device device = CpuDevice.open(1);
        Scope scope = device.scope()) {
      Buffer buffer = scope.allocate(4);
      Mixed fields = new Mixed(7, buffer, 1.5f, -2, null, 9);
      Struct<Mixed> struct = new Struct<>(fields);
      assertSame(fields, struct.fields());
      assertEquals(48, struct.bytes());
      MemorySegment array = MemorySegment.ofArray(new long[12]);
      struct.copyTo(array, 48);
      assertEquals(7, array.get(ValueLayout.JAVA_INT, 48));
      assertEquals(buffer.address(), array.get(ValueLayout.JAVA_LONG, 56));
      assertEquals(1.5f, array.get(ValueLayout.JAVA_FLOAT, 64));
      assertEquals(-2, array.get(ValueLayout.JAVA_LONG, 72));
      assertEquals(0, array.get(ValueLayout.JAVA_LONG, 80));
      assertEquals(9, array.get(ValueLayout.JAVA_INT, 88));
    }
    assertEquals(12, new Struct<>(new Numbers(1, 2, 3)).bytes());
  }

  @Test
  void whatNoStructureHoldsIsRefused() {
    var error =
        assertThrows(IllegalArgumentException.class, () -> new Struct<>(new Wrong(null, "text")));
    assertTrue(error.getMessage().contains("field text of Wrong is a String"), error.getMessage());
  }
}
