package dev.halter.files;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;

/**
 * libhalter-pages.so: pages of a mapped file that are gone read as zeros, and whoever mapped it can
 * ask whether that happened. Without it (native code that was not built) the signal of such a read
 * ends the process, but for reads of Java, which are an {@link InternalError}.
 */
final class LostPages {
  private static final int UNWATCHED = -1;

  private static final SymbolLookup LIBRARY = library();
  private static final MethodHandle WATCH =
      handle("watch", FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG));
  private static final MethodHandle LOST =
      handle("lost", FunctionDescriptor.of(JAVA_INT, JAVA_INT));
  private static final MethodHandle FORGET = handle("forget", FunctionDescriptor.ofVoid(JAVA_INT));

  private LostPages() {}

  /** Watches a mapped file until it is forgotten; the number to ask by. */
  static int watch(MemorySegment mapped) {
    if (WATCH == null) {
      return UNWATCHED;
    }
    try {
      return (int) WATCH.invokeExact(mapped, mapped.byteSize());
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /** Whether zeros stand in for pages of it. */
  static boolean lost(int number) {
    if (number == UNWATCHED) {
      return false;
    }
    try {
      return (int) LOST.invokeExact(number) != 0;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /** To be called before it is unmapped. */
  static void forget(int number) {
    if (number == UNWATCHED) {
      return;
    }
    try {
      FORGET.invokeExact(number);
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  private static SymbolLookup library() {
    return NativeFiles.pages()
        .map(file -> SymbolLookup.libraryLookup(file.toAbsolutePath(), Arena.global()))
        .orElse(null);
  }

  private static MethodHandle handle(String name, FunctionDescriptor function) {
    return LIBRARY == null
        ? null
        : Linker.nativeLinker()
            .downcallHandle(LIBRARY.findOrThrow("halter_pages_" + name), function);
  }
}
