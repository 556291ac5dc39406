package dev.halter.spark;

import dev.halter.generation.Generation;
import dev.halter.generation.Result;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.RejectedExecutionException;
import java.util.function.Function;
import org.apache.spark.TaskContext;
import org.apache.spark.sql.Row;

/**
 * A partition's rows through an engine, in their order. It runs ahead of whoever reads it: as many
 * requests are open as keep the batch full, whatever the one waits for that is due next. What is
 * answered behind a slow one is kept, up to {@link #KEPT} times as many rows as are open.
 */
final class FedRows extends ChunkedRows {
  /** Answered rows are text and ids, and cost little beside an empty place in a batch. */
  static final int KEPT = 16;

  private final Iterator<Row> rows;
  private final Function<Row, RowJob> jobs;
  private final SharedEngine shared;
  private final BatchMetrics metrics;
  private final TaskContext task;
  private final int mostOpen;
  private final int mostKept;
  private final Deque<Pending> window = new ArrayDeque<>(); // of the task's thread alone
  private int open; // under this' lock, as all of Pending

  /** A row on its way. */
  private final class Pending {
    final RowJob job;
    Generation generation;
    Result result;
    Throwable failure;
    boolean isDone;

    Pending(RowJob job) {
      this.job = job;
    }

    void submit() {
      try {
        generation = shared.engine().submit(job.request());
      } catch (RejectedExecutionException e) {
        throw shared.lost(e.getCause() == null ? e : e.getCause());
      } catch (IllegalArgumentException e) {
        failure = e;
        isDone = true;
        return;
      }
      synchronized (FedRows.this) {
        open++;
      }
      CompletableFuture<Result> unused = generation.result().whenComplete(this::end);
    }

    /** In the engine's thread. */
    private void end(Result ended, Throwable problem) {
      synchronized (FedRows.this) {
        result = ended;
        failure = problem instanceof CompletionException ? problem.getCause() : problem;
        isDone = true;
        open--;
        FedRows.this.notifyAll();
      }
    }

    /** The rows of what has ended. */
    List<Row> rows() {
      if (failure == null) {
        metrics.answered(result);
        return job.answered(result);
      }
      // What is wrong with a row leaves the engine whole.
      if (shared.isBroken() || !(failure instanceof IllegalArgumentException)) {
        throw shared.lost(failure);
      }
      metrics.failed();
      return List.of(job.failed(failure.getMessage()));
    }
  }

  /**
   * @param mostOpen requests that are open at once
   * @param mostKept rows that are open or answered at once
   */
  FedRows(
      Iterator<Row> rows,
      Function<Row, RowJob> jobs,
      SharedEngine shared,
      BatchMetrics metrics,
      TaskContext task,
      int mostOpen,
      int mostKept) {
    this.rows = rows;
    this.jobs = jobs;
    this.shared = shared;
    this.metrics = metrics;
    this.task = task;
    this.mostOpen = mostOpen;
    this.mostKept = mostKept;
    task.addTaskCompletionListener(
        ended -> {
          cancel();
          metrics.stepped(shared.untold());
        });
  }

  @Override
  Iterator<Row> more() {
    Pending ended = nextEnded();
    return ended == null ? null : ended.rows().iterator();
  }

  /**
   * The row that is due, once it has ended, with the engine fed meanwhile; null behind the last.
   */
  private Pending nextEnded() {
    while (true) {
      while (hasRoom() && rows.hasNext()) {
        Pending pending = new Pending(jobs.apply(rows.next()));
        window.add(pending);
        pending.submit();
      }
      Pending due = window.peek();
      if (due == null || hasEnded(due)) {
        return window.poll();
      }
    }
  }

  private synchronized boolean hasRoom() {
    return open < mostOpen && window.size() < mostKept;
  }

  /** Waits until a row has ended, or any has and there are more to submit. */
  private synchronized boolean hasEnded(Pending due) {
    int before = open;
    try {
      while (!due.isDone && open == before) {
        wait();
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      task.killTaskIfInterrupted();
      throw new IllegalStateException("interrupted while waiting for the engine", e);
    }
    return due.isDone;
  }

  /** Of a task that ends before its rows: nobody waits for what is open. */
  private void cancel() {
    window.forEach(
        pending -> {
          if (pending.generation != null) {
            pending.generation.cancel();
          }
        });
  }
}
