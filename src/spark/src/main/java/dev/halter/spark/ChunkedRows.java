package dev.halter.spark;

import java.util.Collections;
import java.util.Iterator;
import java.util.NoSuchElementException;
import org.apache.spark.sql.Row;

/** Rows that are made some at a time, when they are asked for. */
abstract class ChunkedRows implements Iterator<Row> {
  private Iterator<Row> ready = Collections.emptyIterator();

  /** The next rows, which may be none; null behind the last. */
  abstract Iterator<Row> more();

  @Override
  public final boolean hasNext() {
    while (!ready.hasNext()) {
      Iterator<Row> next = more();
      if (next == null) {
        return false;
      }
      ready = next;
    }
    return true;
  }

  @Override
  public final Row next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    return ready.next();
  }
}
