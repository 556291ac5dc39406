package dev.halter.device.cpu;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * A limit on memory that a container sets, in bytes.
 *
 * @param limit {@link Long#MAX_VALUE} where there is none
 * @param free what is left below it: file pages that can be dropped count as free
 */
record ControlGroup(long limit, long free) {
  /** Where a version of control groups has its folders, and what it calls things. */
  private enum Version {
    TWO("", "memory.max", "memory.current", "inactive_file"),
    ONE("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file");

    private final String folder;
    private final String limit;
    private final String used;
    private final String cached;

    Version(String folder, String limit, String used, String cached) {
      this.folder = folder;
      this.limit = limit;
      this.used = used;
      this.cached = cached;
    }

    /** Whether a line of /proc/self/cgroup, {@code number:controllers:/group}, is its. */
    private boolean has(String[] line) {
      return switch (this) {
        case TWO -> line[0].equals("0") && line[1].isEmpty();
        case ONE -> (',' + line[1] + ',').contains(",memory,");
      };
    }
  }

  /** That of this process. */
  static ControlGroup ofProcess() {
    return of(Path.of("/sys/fs/cgroup"), Path.of("/proc/self/cgroup"));
  }

  /**
   * The narrowest limit of the groups that a process is in: those of all groups that its own lies
   * in hold too. Mixed systems have both versions.
   *
   * @param root where the groups are
   * @param membership which the process is in, as /proc/self/cgroup says
   */
  static ControlGroup of(Path root, Path membership) {
    ControlGroup narrowest = new ControlGroup(Long.MAX_VALUE, Long.MAX_VALUE);
    try {
      for (String text : Files.readAllLines(membership)) {
        String[] line = text.split(":", 3);
        for (Version version : Version.values()) {
          if (line.length == 3 && version.has(line)) {
            narrowest = narrowest.and(version, root.resolve(version.folder), line[2]);
          }
        }
      }
    } catch (IOException e) {
      // None is known.
    }
    return narrowest;
  }

  private ControlGroup and(Version version, Path root, String name) {
    Path group = root.resolve(name.replaceFirst("^/+", "")).normalize();
    // A container may see its group as the root, and the name that it has outside.
    group = group.startsWith(root) ? group : root;
    ControlGroup narrowest = this;
    for (; group.startsWith(root); group = group.getParent()) {
      try {
        long most = number(group.resolve(version.limit));
        long free =
            Math.max(0, most - number(group.resolve(version.used)) + cached(version, group));
        narrowest =
            new ControlGroup(
                Math.min(narrowest.limit, most), Math.min(narrowest.free, Math.min(most, free)));
      } catch (IOException | NumberFormatException e) {
        // No limit: there is no such file, or it says "max".
      }
    }
    return narrowest;
  }

  private static long number(Path file) throws IOException {
    return Long.parseLong(Files.readString(file).strip());
  }

  private static long cached(Version version, Path group) throws IOException {
    Path statistics = group.resolve("memory.stat");
    if (Files.exists(statistics)) {
      for (String line : Files.readAllLines(statistics)) {
        if (line.startsWith(version.cached + " ")) {
          return Long.parseLong(line.substring(version.cached.length() + 1).strip());
        }
      }
    }
    return 0;
  }
}
