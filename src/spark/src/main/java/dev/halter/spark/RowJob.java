package dev.halter.spark;

import dev.halter.generation.Request;
import dev.halter.generation.Result;
import java.util.List;
import org.apache.spark.sql.Row;

/** A row of a dataset and what is to become of it. */
interface RowJob {
  /**
   * What the engine is asked for.
   *
   * @throws IllegalArgumentException if the row cannot be asked
   */
  Request request();

  /** The rows of the result. */
  List<Row> answered(Result result);

  /** The row that says why there is none. */
  Row failed(String problem);
}
