package dev.halter.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The script {@code halter}, in a checkout whose Java runs the classes under test. */
class LauncherTest {
  private static final int SECONDS = 3;

  @TempDir Path top;

  @BeforeEach
  void checkOut() throws IOException {
    for (String file : new String[] {"halter", "src/main/bin/launch"}) {
      script(file, Files.readString(Path.of(file)));
    }
    script("tools/jdk", "#!/bin/sh\necho " + top.resolve("jdk") + "\n");
    String java = String.join(" ", CommandLineRun.process().command());
    // Everything after the class that the launcher names is an argument.
    script(
        "jdk/bin/java",
        """
        #!/bin/bash
        while [ "$1" != dev.halter.cli.Halter ]; do
            case $1 in -X*) JDK_JAVA_OPTIONS="${JDK_JAVA_OPTIONS:-} $1" ;; esac
            shift
        done
        shift
        export JDK_JAVA_OPTIONS
        exec %s "$@"
        """
            .formatted(java));
    Files.createDirectories(top.resolve("target/lib"));
    for (String file : new String[] {"pom.xml", "target/halter-0.jar"}) {
      Files.createFile(top.resolve(file));
    }
    for (String folder :
        new String[] {
          "src/main/java", "src/main/resources", "native", "cuda-kernels", "tools/class-cache"
        }) {
      Files.createDirectories(top.resolve(folder));
    }
    built();
  }

  /** As after a build, with a cache for fast starts that could not be made. */
  private void built() throws IOException {
    FileTime later = FileTime.from(Instant.now().plusSeconds(10));
    for (String file : new String[] {"halter.stamp", "halter.aot"}) {
      Path made = top.resolve("target").resolve(file);
      Files.writeString(made, "");
      Files.setLastModifiedTime(made, later);
    }
  }

  private void script(String name, String text) throws IOException {
    Path file = top.resolve(name);
    Files.createDirectories(file.getParent());
    Files.writeString(file, text);
    Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
  }

  private ProcessBuilder halter(String... arguments) {
    ProcessBuilder process = new ProcessBuilder(arguments);
    process.command().addFirst(top.resolve("halter").toString());
    process.environment().put("PATH", top.resolve("bin") + ":" + System.getenv("PATH"));
    process.redirectError(top.resolve("err").toFile());
    return process;
  }

  private static String bash(String text) {
    return "#!/bin/bash\n" + text + "\n";
  }

  @ParameterizedTest
  @ValueSource(strings = {"C", "POSIX", "C.UTF-8", "no_SUCH", "no_SUCH.ISO-8859-1"})
  void argumentsAndNamesOfFilesAreUtf8InAnyLocale(String locale) throws Exception {
    // The name of the file and the text both come by way of bash, whose strings are bytes.
    script(
        "ask",
        bash(
            """
            cd %s
            echo '[{"role": "user", "content": "dog"}]' > $'\\xc3\\xa9.json'
            ./halter tokens --json --prompt $'\\xc3\\xa9\\xe6\\xa8\\xa1' &&
            ./halter tokens --json --messages $'\\xc3\\xa9.json'"""
                .formatted(top)));
    ProcessBuilder ask = halter();
    ask.command(top.resolve("ask").toString());
    ask.environment().put("LC_ALL", locale);
    Process process = ask.start();
    String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), Files.readString(top.resolve("err")));
    String[] documents = out.split("\n");
    assertEquals(
        CommandLineRun.halter("tokens", "--json", "--prompt", "\u00E9\u6A21").json(),
        CommandLineRun.parse(documents[0]));
    assertTrue(documents[1].contains("dog"), out);
  }

  @Test
  void anArgumentThatIsNoUtf8IsRefused() throws Exception {
    script("ask", bash(top + "/halter tokens --prompt $'\\xe9'"));
    ProcessBuilder ask = halter();
    ask.command(top.resolve("ask").toString());
    assertEquals(2, ask.start().waitFor());
    assertTrue(Files.readString(top.resolve("err")).contains("argument 3 is not UTF-8"));
  }

  @Test
  void javaWithoutTheLauncherRefusesWhatItCannotRead() throws Exception {
    ProcessBuilder plain = CommandLineRun.process("tokens", "--prompt", "X");
    String java = String.join(" ", plain.command()).replaceFirst(" X$", "");
    script("ask", bash("LC_ALL=C exec " + java + " $'\\xc3\\xa9'"));
    ProcessBuilder ask = halter();
    ask.command(top.resolve("ask").toString());
    assertEquals(2, ask.start().waitFor());
    String error = Files.readString(top.resolve("err"));
    assertTrue(error.contains("LC_ALL=C.UTF-8"), error);
  }

  @ParameterizedTest
  @CsvSource({
    "demo, true",
    "tokens --prompt X, true",
    "generate --help, true",
    "heads patch -h, true",
    "generate --prompt X, false",
    "generate --prompt -- --help, false",
    "batch --in help, false"
  })
  void theSecondCompilerStaysOutOfBriefCommands(String arguments, boolean isBrief)
      throws Exception {
    script("jdk/bin/java", bash("echo \"$@\""));
    Process process = halter(arguments.split(" ")).start();
    String java = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), Files.readString(top.resolve("err")));
    assertTrue(java.endsWith(" dev.halter.cli.Halter " + arguments + "\n"), java);
    assertEquals(isBrief, java.contains(" -XX:TieredStopAtLevel=1 "), java);
  }

  /** Java itself would end in its own words, of many lines. */
  @Test
  void aSmallAddressSpaceIsSaidInOneLineOrIsEnough() throws Exception {
    for (int limit : new int[] {1_000_000, 3_000_000}) {
      ProcessBuilder ask = halter();
      ask.environment().remove("JAVA_OPTS");
      script(
          "ask",
          bash("ulimit -v %d\nexec %s/halter tokens --prompt dog --json".formatted(limit, top)));
      ask.command(top.resolve("ask").toString());
      Process process = ask.start();
      String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      int code = process.waitFor();
      String error = Files.readString(top.resolve("err"));
      if (limit < 2_000_000) {
        assertEquals(1, code);
        assertEquals(
            "halter: 'ulimit -v' allows 1000000 kB of address space, too little for Java:"
                + " allow 2000000 or more\n",
            error);
      } else {
        assertEquals(0, code, error);
        assertEquals(
            CommandLineRun.halter("tokens", "--prompt", "dog", "--json").json(),
            CommandLineRun.parse(out));
      }
    }
  }

  @Test
  void aBuildThatHasNoRoomIsNotBegun() throws Exception {
    slowMaven(0);
    script("ask", bash("ulimit -v 4000000\nexec %s/halter --version".formatted(top)));
    ProcessBuilder ask = halter();
    ask.command(top.resolve("ask").toString());
    assertEquals(1, ask.start().waitFor());
    String error = Files.readString(top.resolve("err"));
    assertTrue(error.contains("too little to build: allow 6000000 or more"), error);
    assertFalse(Files.exists(top.resolve("pids")), "it was begun");
  }

  /** A Maven that says that it runs, has a child, and takes longer than the test. */
  private void slowMaven(int seconds) throws IOException {
    script(
        "bin/mvn",
        bash(
            """
            echo $$ >> %1$s/pids
            sleep %2$d & echo $! >> %1$s/pids
            wait
            touch %1$s/ended %1$s/target/halter-0.jar"""
                .formatted(top, seconds)));
    Files.delete(top.resolve("target/halter.stamp"));
  }

  private long[] builds(int wanted) throws Exception {
    Path pids = top.resolve("pids");
    for (int i = 0; i < 300; i++) {
      if (Files.exists(pids)) {
        long[] all = Files.readAllLines(pids).stream().mapToLong(Long::parseLong).toArray();
        if (all.length >= wanted) {
          return all;
        }
      }
      Thread.sleep(50);
    }
    throw new AssertionError("no build: " + Files.readString(top.resolve("err")));
  }

  private static boolean alive(long pid) {
    return ProcessHandle.of(pid).map(ProcessHandle::isAlive).orElse(false);
  }

  @ParameterizedTest
  @ValueSource(strings = {"INT", "TERM", "HUP"})
  void aSignalEndsTheBuildToo(String signal) throws Exception {
    slowMaven(600);
    Process launcher = halter("--version").start();
    long[] builds = builds(2);
    new ProcessBuilder("kill", "-" + signal, Long.toString(launcher.pid())).start().waitFor();
    if (!launcher.waitFor(20, TimeUnit.SECONDS)) {
      launcher.destroyForcibly();
      for (long pid : builds) {
        ProcessHandle.of(pid).ifPresent(ProcessHandle::destroyForcibly);
      }
      throw new AssertionError(signal + " did not end the launcher");
    }
    assertTrue(launcher.exitValue() > 128, "code " + launcher.exitValue());
    for (long pid : builds) {
      assertFalse(alive(pid), "a process of the build still runs");
    }
  }

  /** A launcher that is killed outright cannot end its build: the next start waits for it. */
  @Test
  void theLockBelongsToTheBuild() throws Exception {
    slowMaven(SECONDS);
    Process killed = halter("--version").start();
    long[] builds = builds(2);
    killed.destroyForcibly().waitFor();
    assertTrue(alive(builds[0]));
    Process next = halter("--version").start();
    Thread.sleep(500);
    assertEquals(2, builds(2).length, "two builds at once");
    assertFalse(Files.exists(top.resolve("ended")));
    builds(4);
    assertTrue(Files.exists(top.resolve("ended")), "it began before the first was done");
    assertEquals(0, next.waitFor(), Files.readString(top.resolve("err")));
  }
}
