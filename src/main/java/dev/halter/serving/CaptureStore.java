package dev.halter.serving;

import static dev.halter.files.Json.object;

import dev.halter.files.Reason;
import dev.halter.model.Capture;
import dev.halter.model.CaptureFile;
import dev.halter.model.Site;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * Activations that requests have read: room for those that are being read, and the files of those
 * that wait to be fetched, for a while and up to a number of bytes.
 */
final class CaptureStore implements AutoCloseable {
  /** Of one answer in base64, which lies in memory a few times over while it is written. */
  private static final long MOST_INLINE = 16L << 20;

  /** Of one answer that is fetched. */
  private static final long MOST_DOWNLOAD = 256L << 20;

  private final long room; // bytes of what is being read
  private final long mostKept; // bytes of files
  private final Duration patience;
  private final LinkedHashMap<String, Kept> kept = new LinkedHashMap<>(); // eldest first
  private Path folder; // made for the first file
  private long taken;
  private long keptBytes;
  private boolean isClosed;

  /** With room for a quarter of Java's memory, and a gigabyte of files for ten minutes. */
  CaptureStore() {
    this(Runtime.getRuntime().maxMemory() / 4, 1L << 30, Duration.ofMinutes(10));
  }

  CaptureStore(long room, long mostKept, Duration patience) {
    this.room = room;
    this.mostKept = mostKept;
    this.patience = patience;
  }

  /**
   * A file that waits to be fetched.
   *
   * @param owner who may
   */
  record Kept(String id, String owner, Path file, long bytes, Instant until) {}

  /** Room for what a request reads. */
  final class Taking implements AutoCloseable {
    private final CaptureFields asked;
    private final long bytes;
    private final String owner; // null: it is a part of the answer

    private Taking(CaptureFields asked, long bytes, String owner) {
      this.asked = asked;
      this.bytes = bytes;
      this.owner = owner;
    }

    /** For one answer. */
    Capture of(int... prompt) {
      return asked.capture(prompt);
    }

    /** Whether it is told as {@link #tensor}, not as {@link #json}. */
    boolean isTensor() {
      return asked.isTensor();
    }

    /**
     * What was read of the first answer as vLLM-Lens tells it: a tensor [sites, tokens, d_model].
     */
    Map<String, Object> tensor(List<Choice> choices) {
      Capture capture = choices.getFirst().generation().request().capture();
      int tokens = capture.positions().length;
      int width = asked.config().dModel();
      ByteBuffer bytes = ByteBuffer.allocate(4 * asked.sites().size() * tokens * width);
      bytes.order(ByteOrder.LITTLE_ENDIAN);
      for (Site site : asked.sites()) {
        for (float value : capture.values().get(site)) {
          bytes.putFloat(value);
        }
      }
      return object(
          "data",
          Base64.getEncoder().encodeToString(bytes.array()),
          "dtype",
          "float32",
          "original_dtype",
          "torch.float32",
          "shape",
          List.of(asked.sites().size(), tokens, width));
    }

    /** What the answer tells of what was read. */
    Map<String, Object> json(List<Choice> choices) {
      Map<String, Capture> captures = new LinkedHashMap<>();
      List<int[]> positions = new ArrayList<>();
      for (Choice choice : choices) {
        Capture capture = choice.generation().request().capture();
        captures.put(Integer.toString(choice.index()), capture);
        positions.add(capture.positions());
      }
      Map<String, Object> json = object("format", "safetensors", "positions", positions);
      try {
        Path file = folder().resolve(UUID.randomUUID().toString());
        CaptureFile.write(file, captures);
        long length = Files.size(file);
        json.put("bytes", length);
        if (owner == null) {
          byte[] content = Files.readAllBytes(file);
          delete(file);
          json.put("base64", Base64.getEncoder().encodeToString(content));
        } else {
          Kept waiting = keep(file, length, owner);
          json.put("id", waiting.id);
          json.put("url", CaptureRoutes.PATH + "/" + waiting.id);
          json.put("expires_at", waiting.until.getEpochSecond());
        }
      } catch (IOException e) {
        throw unwritable(Reason.of(e));
      } catch (UncheckedIOException e) {
        throw unwritable(Reason.of(e.getCause()));
      }
      return json;
    }

    @Override
    public void close() {
      release(bytes);
    }
  }

  private static ApiError unwritable(String reason) {
    return new ApiError(500, null, "the server cannot keep what was captured: " + reason);
  }

  /**
   * Takes room for what a request is to read.
   *
   * @param bytes at most, of all answers
   * @param owner who may fetch it; null if it is a part of the answer
   * @throws ApiError 400 if it is more than a request may have, 503 if there is no room now
   */
  Taking take(CaptureFields asked, long bytes, String owner) {
    requireFit(bytes, owner);
    synchronized (this) {
      if (taken + bytes > room) {
        throw new ApiError(
            503, null, "other requests capture %,d bytes now; try again later".formatted(taken));
      }
      taken += bytes;
    }
    return new Taking(asked, bytes, owner);
  }

  /** As {@link #take}, for a part of an answer; waits for the room. */
  Taking await(CaptureFields asked, long bytes) {
    requireFit(bytes, null);
    synchronized (this) {
      while (taken + bytes > room) {
        try {
          wait();
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
          throw new ApiError(503, null, "interrupted while waiting for others to capture");
        }
      }
      taken += bytes;
    }
    return new Taking(asked, bytes, null);
  }

  private void requireFit(long bytes, String owner) {
    long most = Math.min(room, owner == null ? MOST_INLINE : MOST_DOWNLOAD);
    if (bytes > most) {
      throw ApiError.badRequest(
          CaptureFields.NAME,
          "it would be of %,d bytes, at most %,d can be had%s: name fewer sites or positions, or a smaller max_tokens"
              .formatted(
                  bytes,
                  most,
                  owner == null && bytes <= Math.min(room, MOST_DOWNLOAD)
                      ? " in an answer; add \"as\": \"download\", or"
                      : ""));
    }
  }

  private synchronized void release(long bytes) {
    taken -= bytes;
    notifyAll();
  }

  private synchronized Path folder() throws IOException {
    if (isClosed) {
      throw new IOException("it is about to end");
    }
    if (folder == null) {
      folder = Files.createTempDirectory("halter-captures-"); // its owner's alone
    }
    return folder;
  }

  synchronized Kept keep(Path file, long bytes, String owner) {
    String id = "cap-" + UUID.randomUUID().toString().replace("-", "");
    Kept waiting = new Kept(id, owner, file, bytes, Instant.now().plus(patience));
    kept.put(id, waiting);
    keptBytes += bytes;
    for (Iterator<Kept> eldest = kept.values().iterator(); keptBytes > mostKept; ) {
      forget(eldest.next());
      eldest.remove();
    }
    CompletableFuture.delayedExecutor(patience.toMillis(), TimeUnit.MILLISECONDS)
        .execute(() -> remove(id));
    return waiting;
  }

  /** What waits by this id for this owner, or null. */
  synchronized Kept find(String id, String owner) {
    Kept found = kept.get(id);
    boolean isTheirs =
        found != null && found.owner.equals(owner) && Instant.now().isBefore(found.until);
    return isTheirs ? found : null;
  }

  /** Forgets what waits by this id, if anything does. */
  synchronized void remove(String id) {
    Kept gone = kept.remove(id);
    if (gone != null) {
      forget(gone);
    }
  }

  private void forget(Kept gone) {
    keptBytes -= gone.bytes;
    delete(gone.file);
  }

  private static void delete(Path file) {
    try {
      Files.deleteIfExists(file);
    } catch (IOException e) {
      // It lies in a folder for such files, which the system clears.
    }
  }

  @Override
  public synchronized void close() {
    isClosed = true;
    List.copyOf(kept.keySet()).forEach(this::remove);
    if (folder != null) {
      delete(folder);
    }
  }
}
