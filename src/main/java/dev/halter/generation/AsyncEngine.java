package dev.halter.generation;

import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;
import java.util.stream.Stream;

/**
 * An engine that takes requests from any thread at any time, and a thread of its own that steps it
 * as long as there are any:
 *
 * {@snippet file="dev/halter/snippets/GenerationSnippetsTest.java" region="submit"}
 *
 * <p>Results are those of {@link Engine#run(List)}, whatever comes before, beside and after. What
 * happens to one request costs no other anything: one that is cancelled, whose time is up, that
 * cannot be served or whose listener throws leaves the batch between two steps, and its pages and
 * its steering are free for the next.
 *
 * <p>Requests join the batch in the order in which they came, as soon as it has a sequence and the
 * pages for their whole length. None overtakes another, so that one that needs many pages gets
 * them; those behind it wait with it meanwhile.
 *
 * <p>What else is to be done with the model beside them is {@link Work}.
 *
 * <p>A failure of the device ends it: every request that is open fails with it, and no other is
 * taken.
 */
public final class AsyncEngine implements AutoCloseable {
  /** Most requests that wait, where nothing else is said. */
  public static final int MAX_WAITING = 1024;

  private static final Duration FOR_EVER = Duration.ofSeconds(Long.MAX_VALUE);

  private final Engine engine;
  private final int maxWaiting;
  private final LongSupplier clock;
  private final Meter meter;
  private final Thread owner = new Thread(this::serve, "halter-engine");

  private final Object lock = new Object(); // of what follows; nobody is told anything under it
  private final Deque<Entry> waiting = new ArrayDeque<>(); // taken out by the owner alone
  private final List<Entry> running = new ArrayList<>();
  private final Deque<Errand<?>> errands = new ArrayDeque<>(); // the first of them runs
  private boolean isClosed;
  private Throwable failure;

  /** As {@link #AsyncEngine(Engine, int)}, with up to {@link #MAX_WAITING} requests that wait. */
  public AsyncEngine(Engine engine) {
    this(engine, MAX_WAITING);
  }

  /**
   * Takes an engine over, and its model with it, until this is closed; neither is closed with it.
   *
   * @param maxWaiting most requests that wait for room in the batch: further ones are refused
   * @throws IllegalStateException if another has it
   */
  public AsyncEngine(Engine engine, int maxWaiting) {
    this(engine, maxWaiting, System::nanoTime);
  }

  AsyncEngine(Engine engine, int maxWaiting, LongSupplier clock) {
    if (maxWaiting < 1) {
      throw new IllegalArgumentException("maxWaiting is " + maxWaiting + ", must be 1 or more");
    }
    this.engine = engine;
    this.maxWaiting = maxWaiting;
    this.clock = clock;
    this.meter = new Meter(engine.model().cache().pages());
    engine.claim(owner);
    owner.setDaemon(true); // a program that ends without closing this is to end
    owner.start();
  }

  /**
   * Something else to do with the model than to answer requests, such as a sweep of path patching:
   * in the engine's thread, in pieces of about a step, between which the requests go on.
   */
  @FunctionalInterface
  public interface Work<T> {
    /**
     * Does it.
     *
     * @param pause to be called between pieces, and first of all
     */
    T run(Llama model, Pause pause);
  }

  /** Lets requests go on while work is done. */
  @FunctionalInterface
  public interface Pause {
    /**
     * Gives them a step, and more as long as the work took since the pause before: it gets half of
     * the time at most. No sequence may be open in the cache, and nothing that is needed later may
     * lie in the buffers of the model's step.
     *
     * @param tokens for which the cache then has room in a sequence of the work's own; 0 for none
     * @throws CancellationException if the work is not wanted any more
     */
    void pause(int tokens);
  }

  /** Work that is waiting or being done. */
  private final class Errand<T> implements Pause {
    final CompletableFuture<T> result = new CompletableFuture<>();
    private final Work<T> work;
    private long resumed; // when the work went on, last
    private boolean hasBroken; // the engine, under the work

    Errand(Work<T> work) {
      this.work = work;
    }

    void run() {
      resumed = clock.getAsLong();
      try {
        result.complete(work.run(engine.model(), this));
      } catch (RuntimeException | Error e) {
        result.completeExceptionally(e);
        if (hasBroken || e instanceof Error) {
          throw e;
        }
      } finally {
        synchronized (lock) {
          errands.remove(this);
        }
      }
    }

    @Override
    public void pause(int tokens) {
      hasBroken = true; // unless the turns end well
      long paused = clock.getAsLong();
      long worked = paused - resumed;
      do {
        turn(true);
      } while (!running.isEmpty() && !result.isCancelled() && clock.getAsLong() - paused < worked);
      while (!result.isCancelled() && !hasRoom(tokens)) {
        if (running.isEmpty()) {
          hasBroken = false;
          throw new IllegalArgumentException(
              "%,d tokens do not fit the KV cache".formatted(tokens));
        }
        turn(false); // whoever waits would take the room
      }
      hasBroken = false;
      resumed = clock.getAsLong();
      if (result.isCancelled()) {
        throw new CancellationException("the work was cancelled");
      }
    }

    private boolean hasRoom(int tokens) {
      KvCache cache = engine.model().cache();
      return tokens == 0
          || cache.sequencesFree() > 0 && KvCache.pagesFor(tokens) <= cache.pagesFree();
    }
  }

  /** A request that is open. */
  private final class Entry implements Engine.Job {
    final Generation generation;
    final long nanos; // that it may take
    final long since = clock.getAsLong();
    boolean hasSpoken;
    long spoke; // when, last

    Entry(Generation generation, long nanos) {
      this.generation = generation;
      this.nanos = nanos;
    }

    @Override
    public Request request() {
      return generation.request();
    }

    Duration age() {
      return Duration.ofNanos(clock.getAsLong() - since);
    }

    /** Why it is to leave before its end; null if it is not. */
    Result.Finish cut() {
      return generation.isCancelled()
          ? Result.Finish.CANCELLED
          : clock.getAsLong() - since >= nanos ? Result.Finish.DEADLINE : null;
    }

    @Override
    public void token(Generation.Token token) {
      long now = clock.getAsLong();
      if (hasSpoken) {
        meter.nextToken(now - spoke);
      } else {
        hasSpoken = true;
        meter.firstToken(Duration.ofNanos(now - since));
      }
      spoke = now;
      generation.add(token);
    }

    @Override
    public void done(Result result) {
      forget(this);
      if (result.failure() == null) {
        meter.ended(result.finish());
      } else {
        meter.failed();
      }
      generation.end(result);
    }
  }

  /**
   * Submits a request. It is checked when its turn comes; what is wrong with it is the failure of
   * its result.
   *
   * @throws RejectedExecutionException if too many wait already (try again later), or the engine is
   *     closed or has failed, which is the cause then
   */
  public Generation submit(Request request) {
    return submit(request, FOR_EVER);
  }

  /**
   * As {@link #submit(Request)}, with a deadline.
   *
   * @param within the time from now after which the request ends with what it has by then, {@link
   *     Result.Finish#DEADLINE}; at the end of the step that runs
   */
  public Generation submit(Request request, Duration within) {
    if (within.isNegative()) {
      throw new IllegalArgumentException("a deadline of " + within + ", must be 0 or more");
    }
    Generation generation = new Generation(request);
    synchronized (lock) {
      requireOpen();
      if (waiting.size() >= maxWaiting) {
        meter.rejected();
        throw new RejectedExecutionException(
            "the engine is busy: %,d requests wait already; try again later".formatted(maxWaiting));
      }
      waiting.add(new Entry(generation, TimeUnit.NANOSECONDS.convert(within)));
      lock.notifyAll();
    }
    return generation;
  }

  /**
   * Has work done beside the requests, one such work after another.
   *
   * @return its result, or what it threw; cancelling it ends the work at its next pause
   * @throws RejectedExecutionException if the engine is closed or has failed
   */
  public <T> CompletableFuture<T> perform(Work<T> work) {
    Errand<T> errand = new Errand<>(work);
    synchronized (lock) {
      requireOpen();
      errands.add(errand);
      lock.notifyAll();
    }
    return errand.result;
  }

  private void requireOpen() {
    if (failure != null) {
      throw new RejectedExecutionException(
          "the engine has failed: " + failure.getMessage(), failure);
    }
    if (isClosed) {
      throw new RejectedExecutionException("the engine is closed");
    }
  }

  /** Whether it is neither closed nor has failed. */
  public boolean takesRequests() {
    synchronized (lock) {
      return !isClosed;
    }
  }

  /** What it does and has done. */
  public EngineMetrics metrics() {
    synchronized (lock) {
      return meter.read(running.size(), waiting.size());
    }
  }

  /** The life of the owner's thread. */
  private void serve() {
    try {
      while (hasWork()) {
        Errand<?> errand = errand();
        if (errand == null) {
          turn(true);
        } else {
          errand.run();
        }
      }
    } catch (Throwable e) { // whatever it is, nobody is to wait for ever
      fail(e);
    } finally {
      engine.release();
    }
  }

  /**
   * A step of what runs, if anything does.
   *
   * @param admits whether requests that wait may join before it
   */
  private void turn(boolean admits) {
    dismiss();
    if (admits) {
      admit();
    }
    if (!running.isEmpty()) {
      boolean isFull = admits && first() != null || engine.model().cache().sequencesFree() == 0;
      engine.step(step -> meter.stepped(step, isFull));
      measure();
    }
  }

  private Errand<?> errand() {
    synchronized (lock) {
      return errands.peek();
    }
  }

  private boolean isIdle() {
    return waiting.isEmpty() && running.isEmpty() && errands.isEmpty();
  }

  /** Waits for a request or work; false if there is none and no more will come. */
  private boolean hasWork() {
    synchronized (lock) {
      while (isIdle() && !isClosed) {
        try {
          lock.wait();
        } catch (InterruptedException e) {
          // Nobody's business: only closing ends this thread.
        }
      }
      return !isIdle();
    }
  }

  /** Ends what was cancelled and what is too late. */
  private void dismiss() {
    for (Entry entry : leaving(running)) {
      engine.cancel(entry, entry.cut());
    }
    for (Entry entry : leaving(waiting)) {
      entry.done(Result.unbegun(entry.request(), entry.cut()));
    }
  }

  private List<Entry> leaving(Collection<Entry> entries) {
    synchronized (lock) {
      return entries.stream().filter(entry -> entry.cut() != null).toList();
    }
  }

  /** Lets as many join the batch as fit, in their order. */
  private void admit() {
    for (Entry first = first(); first != null && engine.join(first); first = first()) {
      synchronized (lock) {
        if (waiting.remove(first)) { // it has left if it cannot be served
          running.add(first);
          meter.joined(first.age());
        }
      }
    }
    measure();
  }

  private Entry first() {
    synchronized (lock) {
      return waiting.peek();
    }
  }

  private void forget(Entry entry) {
    synchronized (lock) {
      waiting.remove(entry);
      running.remove(entry);
    }
    measure();
  }

  private void measure() {
    KvCache cache = engine.model().cache();
    meter.uses(cache.pages() - cache.pagesFree());
  }

  private void fail(Throwable problem) {
    List<Entry> open;
    List<Errand<?>> undone;
    synchronized (lock) {
      isClosed = true;
      failure = problem;
      open = Stream.concat(running.stream(), waiting.stream()).toList();
      undone = List.copyOf(errands);
      running.clear();
      waiting.clear();
      errands.clear();
    }
    try {
      engine.leaveAll();
      measure();
    } finally {
      for (Entry entry : open) {
        meter.failed();
        entry.generation.fail(problem);
      }
      undone.forEach(errand -> errand.result.completeExceptionally(problem));
    }
  }

  /** Takes no more requests, and waits until all it has taken have ended. */
  @Override
  public void close() {
    close(FOR_EVER);
  }

  /**
   * Takes no more requests, waits for those it has taken for a while, then cancels what is left and
   * waits for the end of the step that runs. All results stand when this returns, and the engine
   * may be used by the calling thread.
   *
   * <p>If the thread is interrupted while it waits, what is left is cancelled at once.
   *
   * @param patience zero to cancel at once
   * @throws IllegalStateException if a listener calls it, for whose end it would wait
   */
  public void close(Duration patience) {
    if (Thread.currentThread() == owner) {
      throw new IllegalStateException("the engine cannot be closed from its own thread");
    }
    synchronized (lock) {
      isClosed = true;
      lock.notifyAll();
    }
    boolean isInterrupted = false;
    boolean hasEnded = false;
    try {
      hasEnded = owner.join(patience);
    } catch (InterruptedException e) {
      isInterrupted = true;
    }
    if (!hasEnded) {
      synchronized (lock) {
        waiting.forEach(entry -> entry.generation.cancel());
        running.forEach(entry -> entry.generation.cancel());
        errands.forEach(errand -> errand.result.cancel(false));
      }
    }
    while (!hasEnded) {
      try {
        hasEnded = owner.join(FOR_EVER);
      } catch (InterruptedException e) {
        isInterrupted = true;
      }
    }
    if (isInterrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
