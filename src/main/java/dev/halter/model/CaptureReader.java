package dev.halter.model;

import dev.halter.device.Arrival;
import dev.halter.device.Buffer;
import dev.halter.device.DeviceException;
import dev.halter.device.HostCopy;
import dev.halter.device.Scope;
import dev.halter.weights.ModelConfig;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * Fills captures: what they ask for of a step is read into one device buffer and goes from there
 * straight to where captures keep it. Little goes when the step is done: a launch a site and one
 * copy, of the rows asked for. More goes on the way, while the step runs on, and the buffer is a
 * ring; only where the host is behind by all of it does a reading wait.
 */
public final class CaptureReader {
  private static final Site LOGITS = new Site(Site.Kind.LOGITS, -1);

  /**
   * Most bytes of the buffer, where no site needs more: eight readings of 2,000 tokens of a
   * residual stream of 4,096, two of an MLP of 14,336, so that blocks run while others are copied.
   */
  private static final long ROOM = 256L << 20;

  /** Bytes that are worth a copy of their own: some pieces for some threads. */
  private static final long WORTH_SENDING = 8L << 20;

  private final ModelConfig config;
  private final Scope scope;
  private final SiteReader reader;
  private final long room;
  private final long worthSending;
  private final List<Part> parts = new ArrayList<>();
  private final List<Read> pending = new ArrayList<>(); // from begin to end
  private final Deque<Sent> sent = new ArrayDeque<>(); // the oldest first
  private Buffer buffer; // null until something is read
  private long begin; // of what lies in the buffer and has not been sent
  private long end;
  private long largest; // bytes of one reading
  private long sum; // bytes of all readings of the step

  /** Tokens of a span that a capture asks for, by their indices in it. */
  private record Part(Batch.Span span, Capture capture, int[] indices) {
    int count() {
      return indices.length;
    }

    int[] positions() {
      return IntStream.of(indices).map(index -> span.position() + index).toArray();
    }

    /** What follows one another of it, each as the end of a span. */
    List<Part> runs() {
      List<Part> runs = new ArrayList<>();
      for (int begin = 0, end = 1; begin < indices.length; begin = end++) {
        while (end < indices.length && indices[end] == indices[end - 1] + 1) {
          end++;
        }
        Batch.Span until =
            new Batch.Span(
                span.sequence(),
                span.position(),
                span.firstRow(),
                Arrays.copyOf(span.tokens(), indices[end - 1] + 1),
                span.slots(),
                span.firstOutput(),
                span.firstOutputRow());
        runs.add(new Part(until, capture, Arrays.copyOfRange(indices, begin, end)));
      }
      return runs;
    }

    /** Tokens that the last one of a run sees. */
    int keys() {
      return span.position() + span.length();
    }

    IntStream rows() {
      return IntStream.of(indices).map(index -> span.firstRow() + index);
    }

    IntStream outputRows() {
      int first = span.firstOutputRow() - span.firstOutput();
      return IntStream.of(indices).map(index -> first + index);
    }
  }

  /** Values of a site in the buffer: of several parts, one after another. */
  private record Read(Site site, List<Part> parts, long at) {}

  /** A range of the buffer that is on its way. */
  private record Sent(long begin, long end, Arrival arrival) {
    boolean overlaps(long from, long to) {
      return begin < to && from < end;
    }
  }

  /** For a model's steps; its buffers live in {@code scope}. */
  public CaptureReader(Scope scope, Llama model) {
    this(scope, model, ROOM, WORTH_SENDING);
  }

  /** As above, with a buffer of so many bytes where no site needs more. */
  CaptureReader(Scope scope, Llama model, long room, long worthSending) {
    this.config = model.config();
    this.scope = scope;
    this.reader = new SiteReader(scope, model);
    this.room = room;
    this.worthSending = worthSending;
  }

  /** Begins a step, of which nothing is read yet. */
  public void begin() {
    parts.clear();
    pending.clear();
    while (!sent.isEmpty()) { // by a step that failed
      try {
        sent.removeFirst().arrival.await();
      } catch (DeviceException e) {
        // It failed with this, or something else before.
      }
    }
    begin = 0;
    end = 0;
  }

  /** Reads a span of the step's batch for a capture of its sequence. */
  public void read(Batch.Span span, Capture capture) {
    int[] indices = capture.indices(span);
    if (indices.length > 0) {
      parts.add(new Part(span, capture, indices));
    }
  }

  /**
   * What the step is to be run with, once all its spans are known; null if nothing is read.
   *
   * @throws dev.halter.device.OutOfDeviceMemoryException if there is no room for what is read
   */
  public SiteHook hook() {
    reader.begin();
    largest = 0;
    sum = 0;
    // Captures of the same sites share a launch.
    Map<Set<Site>, List<Part>> groups = new LinkedHashMap<>();
    for (Part part : parts) {
      groups.computeIfAbsent(part.capture.sites(), sites -> new ArrayList<>()).add(part);
    }
    groups.forEach(this::plan);
    if (reader.isEmpty()) {
      return null;
    }
    long needed = Math.max(largest, Math.min(sum, room));
    if (buffer == null || buffer.bytes() < needed) {
      if (buffer != null) {
        buffer.close();
        buffer = null;
      }
      buffer = scope.allocate(needed);
    }
    return reader;
  }

  private void plan(Set<Site> sites, List<Part> group) {
    Set<Site> ofRows = new HashSet<>(sites);
    Set<Site> patterns = new HashSet<>(sites);
    patterns.removeIf(site -> !Capture.isPattern(site));
    ofRows.removeAll(patterns);
    if (ofRows.remove(LOGITS)) {
      plan(Set.of(LOGITS), group, group.stream().flatMapToInt(Part::outputRows));
    }
    plan(ofRows, group, group.stream().flatMapToInt(Part::rows));
    if (!patterns.isEmpty()) {
      group.stream().flatMap(part -> part.runs().stream()).forEach(run -> plan(patterns, run));
    }
  }

  private void plan(Set<Site> patterns, Part run) {
    List<Part> alone = List.of(run);
    count(4L * config.nHeads() * run.count() * run.keys(), patterns.size());
    reader.readPatterns(
        patterns, run.span, run.indices[0], (site, size) -> space(site, alone, size));
  }

  private void plan(Set<Site> sites, List<Part> group, IntStream batchRows) {
    SiteReader.Rows rows = reader.rows(batchRows.toArray());
    for (Site site : sites) {
      count(4L * rows.count() * site.width(config), 1);
    }
    reader.read(sites, rows, (site, size) -> space(site, group, size));
  }

  private void count(long bytes, int readings) {
    largest = Math.max(largest, bytes);
    sum += bytes * readings;
  }

  /** Space in the buffer, once what lies there has left for the host. */
  private Buffer space(Site site, List<Part> group, long bytes) {
    boolean isFull = bytes > buffer.bytes() - end;
    if (isFull || end - begin >= worthSending) {
      send();
    }
    if (isFull) {
      begin = 0;
      end = 0;
    }
    while (sent.stream().anyMatch(range -> range.overlaps(end, end + bytes))) {
      sent.removeFirst().arrival.await();
    }
    pending.add(new Read(site, group, end));
    Buffer space = buffer.slice(end, bytes);
    end += bytes;
    return space;
  }

  /** Sends what has been read, whose launches are queued by now. */
  private void send() {
    if (pending.isEmpty()) {
      return;
    }
    List<HostCopy> copies = new ArrayList<>();
    for (Read read : pending) {
      long from = read.at;
      for (Part part : read.parts) {
        if (Capture.isPattern(read.site)) {
          part.capture.takePattern(read.site, part.positions(), from, part.keys(), copies);
        } else {
          part.capture.take(read.site, part.positions(), from, copies);
          from += 4L * part.count() * read.site.width(config);
        }
      }
    }
    pending.clear();
    sent.addLast(new Sent(begin, end, buffer.send(copies)));
    begin = end;
  }

  /** Gives the captures what has been read; call it when the step has run. */
  public void finish() {
    send();
    while (!sent.isEmpty()) {
      sent.removeFirst().arrival.await();
    }
    begin = 0;
    end = 0;
  }
}
