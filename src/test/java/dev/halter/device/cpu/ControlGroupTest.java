package dev.halter.device.cpu;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ControlGroupTest {
  private static final long NONE = Long.MAX_VALUE;

  @TempDir Path folder;

  private void write(String file, String text) throws IOException {
    Path path = folder.resolve("fs").resolve(file);
    Files.createDirectories(path.getParent());
    Files.writeString(path, text + "\n");
  }

  private ControlGroup of(String... membership) throws IOException {
    Path file = Files.writeString(folder.resolve("cgroup"), String.join("\n", membership) + "\n");
    return ControlGroup.of(folder.resolve("fs"), file);
  }

  @Test
  void versionTwo() throws IOException {
    write("a/b/memory.max", "max");
    write("a/b/memory.current", "600");
    write("a/memory.max", "1000");
    write("a/memory.current", "700");
    write("a/memory.stat", "anon 500\ninactive_file 150\nactive_file 50");
    assertEquals(new ControlGroup(1000, 450), of("0::/a/b"));
    assertEquals(new ControlGroup(NONE, NONE), of("0::/"));
    assertEquals(new ControlGroup(NONE, NONE), of("0::/../../a"));
  }

  @Test
  void versionOne() throws IOException {
    write("memory/memory.limit_in_bytes", "9223372036854771712");
    write("memory/memory.usage_in_bytes", "100");
    write("memory/a/memory.limit_in_bytes", "1000");
    write("memory/a/memory.usage_in_bytes", "700");
    write("memory/a/memory.stat", "inactive_file 10\ntotal_inactive_file 150");
    String[] lines = {"9:name=systemd:/a", "5:cpu,cpuacct:/x", "4:memory:/a", "0::/"};
    assertEquals(new ControlGroup(1000, 450), of(lines));
    // Inside a container the group that is known outside is not to be seen.
    write("memory/memory.limit_in_bytes", "800");
    assertEquals(new ControlGroup(800, 700), of("4:hugetlb,memory:/docker/0123"));
  }

  @Test
  void whatIsUsedBeyondALimitLeavesNothing() throws IOException {
    write("memory.max", "1000");
    write("memory.current", "1200");
    assertEquals(new ControlGroup(1000, 0), of("0::/"));
  }

  @Test
  void withoutGroupsThereIsNoLimit() throws IOException {
    assertEquals(new ControlGroup(NONE, NONE), of());
    assertEquals(
        new ControlGroup(NONE, NONE), ControlGroup.of(folder, folder.resolve("no such file")));
  }
}
