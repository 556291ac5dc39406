package dev.halter.files;

import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/**
 * Why a file cannot be read or written, in words. The messages of Java's own exceptions are often
 * nothing but a name, and that of a temporary file at times.
 */
public final class Reason {
  private Reason() {}

  /** Such as {@code "permission denied"}; never null or a name alone. */
  public static String of(IOException e) {
    return switch (e) {
      case NoSuchFileException missing -> missing(Path.of(missing.getFile()).toAbsolutePath());
      case AccessDeniedException denied -> "permission denied";
      case FileAlreadyExistsException there -> "there is such a file already";
      case CharacterCodingException coding -> "it is not UTF-8 text";
      case FileSystemException known -> words(known.getReason(), known);
      default -> words(e.getMessage(), e);
    };
  }

  private static String missing(Path file) {
    Path folder = file.getParent();
    return folder == null || Files.isDirectory(folder)
        ? "no such file"
        : "there is no folder " + folder;
  }

  /** The system's words, which begin with a capital. */
  private static String words(String message, IOException e) {
    if (message == null) {
      return e.getClass().getSimpleName();
    }
    boolean sentence = message.length() > 1 && Character.isLowerCase(message.charAt(1));
    return sentence ? Character.toLowerCase(message.charAt(0)) + message.substring(1) : message;
  }
}
