import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassFile.ClassHierarchyResolverOption;
import java.lang.classfile.ClassFile.ConstantPoolSharingOption;
import java.lang.classfile.ClassFile.StackMapsOption;
import java.lang.classfile.ClassFileVersion;
import java.lang.classfile.ClassHierarchyResolver;
import java.lang.classfile.ClassTransform;
import java.lang.constant.ClassDesc;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;

/**
 * Renews jars in place: class files of before Java 6 get the version of Java 21, and the stack maps
 * that it asks for. Java's class cache takes no older ones, so that each start would parse and
 * verify them again: of picocli's that were two fifths of {@code halter --help}.
 *
 * <pre>{@code
 * java tools/class-cache/Renew.java JAR...
 * }</pre>
 */
final class Renew {
  private static final int OLDEST = ClassFile.JAVA_6_VERSION;

  private Renew() {}

  public static void main(String[] jars) throws IOException {
    for (String jar : jars) {
      renew(Path.of(jar));
    }
  }

  private static void renew(Path file) throws IOException {
    Path renewed = file.resolveSibling(file.getFileName() + ".renewed");
    boolean changed = false;
    try (JarFile jar = new JarFile(file.toFile());
        ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(renewed))) {
      ClassFile classes = classes(jar);
      for (JarEntry entry : jar.stream().toList()) {
        byte[] content;
        try (InputStream in = jar.getInputStream(entry)) {
          content = in.readAllBytes();
        }
        if (entry.getName().endsWith(".class") && version(content) < OLDEST) {
          content = renew(classes, content);
          changed = true;
        }
        ZipEntry copy = new ZipEntry(entry.getName());
        copy.setTime(entry.getTime());
        out.putNextEntry(copy);
        out.write(content);
      }
    }
    if (changed) {
      Files.move(renewed, file, StandardCopyOption.ATOMIC_MOVE);
    } else {
      Files.delete(renewed);
    }
  }

  /** The major version, bytes 6 and 7 of a class file. */
  private static int version(byte[] content) {
    return (content[6] & 0xff) << 8 | content[7] & 0xff;
  }

  private static byte[] renew(ClassFile classes, byte[] content) {
    ClassTransform version =
        (builder, element) -> {
          if (element instanceof ClassFileVersion) {
            builder.withVersion(ClassFile.JAVA_21_VERSION, 0);
          } else {
            builder.with(element);
          }
        };
    // Code that is only passed on would be copied without new stack maps.
    ClassTransform rebuilt =
        ClassTransform.transformingMethodBodies((builder, element) -> builder.with(element));
    return classes.transformClass(classes.parse(content), rebuilt.andThen(version));
  }

  private static ClassFile classes(JarFile jar) {
    return ClassFile.of(
        ConstantPoolSharingOption.NEW_POOL,
        StackMapsOption.GENERATE_STACK_MAPS,
        ClassHierarchyResolverOption.of(
            ClassHierarchyResolver.ofResourceParsing(type -> open(jar, type))
                .orElse(ClassHierarchyResolver.defaultResolver())));
  }

  private static InputStream open(JarFile jar, ClassDesc type) {
    String descriptor = type.descriptorString();
    JarEntry entry = jar.getJarEntry(descriptor.substring(1, descriptor.length() - 1) + ".class");
    try {
      return entry == null ? null : jar.getInputStream(entry);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
