package dev.halter.cli;

import java.io.BufferedOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.FilterOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/**
 * Standard output that remembers why it could not be written, which {@link PrintStream} keeps to
 * itself.
 */
final class StandardOutput extends FilterOutputStream {
  private IOException failure;

  StandardOutput() {
    super(new BufferedOutputStream(new FileOutputStream(FileDescriptor.out)));
  }

  /** Makes it what {@link System#out} prints on. */
  PrintStream printing() {
    return new PrintStream(this, true, StandardCharsets.UTF_8);
  }

  @Override
  public void write(int b) throws IOException {
    remember(stream -> stream.write(b));
  }

  @Override
  public void write(byte[] bytes, int from, int count) throws IOException {
    remember(stream -> stream.write(bytes, from, count));
  }

  @Override
  public void flush() throws IOException {
    remember(OutputStream::flush);
  }

  /** What kept some of the output from being written, or null. */
  IOException failure() {
    return failure;
  }

  private interface Work {
    void on(OutputStream stream) throws IOException;
  }

  private void remember(Work work) throws IOException {
    try {
      work.on(out);
    } catch (IOException e) {
      failure = failure == null ? e : failure;
      throw e;
    }
  }
}
