package dev.halter.generation;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Scope;
import dev.halter.model.Tail;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.IntStream;

/**
 * Chooses the next token of each row of logits on the device, and tells what the model gives tokens
 * ({@code cuda-kernels/sample.cu}).
 *
 * <p>It follows a step of the model, with which its table goes up and its launches are recorded: a
 * launch for each reading of the logits (one for greedy choices, one more where a request changes
 * them, two or three to draw). What they found is one download. What a request changes of its
 * logits lies in a table on the device, which is uploaded once and counts by itself what was
 * chosen.
 */
final class Sampler implements Tail {
  /** What is chosen where a request forbids all tokens; -1 where the logits are not numbers. */
  static final int FORBIDDEN = -2;

  private static final int BLOCK = 512;

  /** Blocks that a multiprocessor has room for. */
  private static final int BLOCKS = 4;

  // The kernels' flags and sizes.
  private static final int IN_PROMPT = 1;
  private static final int IS_STOP = 2;
  private static final int IS_ALLOWED = 4;
  private static final int STOPS_ARE_EARLY = 1;
  private static final int ONLY_ALLOWED = 2;
  private static final int COUNTS = 4;
  private static final int DRAW_BYTES = 80;
  private static final int TABLE_BYTES = 16; // of its head
  private static final int ENTRY_BYTES = 20;
  private static final int SEGMENT = 4096; // logits that one block views at once
  private static final int PART = 64; // logits of which the largest is kept
  private static final int PROGRESS_BYTES = 28;
  private static final int VIEW_BYTES = 12; // of a segment
  private static final int CUTS_BYTES = 57_384;

  private final Scope scope;
  private final Device device;
  private final Kernel sample;
  private final Kernel sampleCuts;
  private final Kernel sampleDraw;
  private final int vocabularySize;
  private final int segments; // of a row
  private final int blocks; // that fill the device
  private final List<Buffer> idleTables = new ArrayList<>();

  private Buffer results;
  private Buffer tops; // of the parts of rows whose likeliest are told; null before the first
  private Buffer cuts; // of draws that search one; null before the first
  private ByteBuffer toDraws; // and behind them the ids that they name
  private MemorySegment drawsSegment;
  private int[] told;
  private MemorySegment toldSegment;
  private int[] names;

  private Draws[] queued; // whose rows of the step they are
  private int[] outs; // where their results begin
  private int count;
  private int namesUsed;
  private int resultsUsed;
  private int topsUsed;
  private int cutsUsed;
  private int changed; // draws that change their logits
  private int rewritten; // of these all logits
  private int drawn; // draws at a temperature

  // Arguments of the launches, so that a step makes none: out, draws, logits, vocabulary,
  // progress...
  private final Object[] toSample = new Object[9];
  private final Object[] toCuts = new Object[5];
  private final Object[] toDraw = new Object[7];

  /** For up to {@code rows} rows; its buffers live in {@code scope}. */
  Sampler(Scope scope, int vocabularySize, int rows) {
    this.scope = scope;
    this.device = scope.device();
    this.vocabularySize = vocabularySize;
    this.segments = Math.ceilDiv(vocabularySize, SEGMENT);
    this.blocks = BLOCKS * device.multiprocessors();
    this.sample = device.kernel("sample");
    this.sampleCuts = device.kernel("sample_cuts");
    this.sampleDraw = device.kernel("sample_draw");
    this.queued = new Draws[rows];
    this.outs = new int[rows];
    this.names = new int[rows];
    makeDraws((long) DRAW_BYTES * rows);
    makeResults(2 * rows);
    Buffer progress = scope.allocate((long) PROGRESS_BYTES * rows);
    progress.clear();
    Buffer views = scope.allocate((long) VIEW_BYTES * segments * rows);
    toSample[3] = toCuts[2] = toDraw[3] = vocabularySize;
    toSample[4] = toCuts[3] = toDraw[4] = progress;
    toSample[5] = toDraw[5] = views;
  }

  private void makeDraws(long bytes) {
    byte[] host = new byte[Math.toIntExact(bytes)];
    ByteBuffer copy = ByteBuffer.wrap(host).order(ByteOrder.nativeOrder());
    if (toDraws != null) {
      copy.put(toDraws.flip());
    }
    toDraws = copy;
    drawsSegment = MemorySegment.ofArray(host);
  }

  private void makeResults(int words) {
    results = scope.allocate(4L * words);
    told = new int[words];
    toldSegment = MemorySegment.ofArray(told);
    toSample[0] = toDraw[0] = results;
  }

  /** What one request draws by. */
  final class Draws implements AutoCloseable {
    private final Sampling sampling;
    private final LogProbabilities wanted;
    private final int[] named;
    private final int minTokens;
    private final Buffer table; // null: logits are taken as they are

    private Draws(Request request, int maxTokens) {
      this.sampling = request.sampling();
      this.wanted = request.logProbabilities();
      this.named = wanted.tokens().stream().mapToInt(Integer::intValue).toArray();
      this.minTokens = request.stopTokens().isEmpty() ? 0 : request.minTokens();
      this.table = changes() ? table(request, maxTokens) : null;
    }

    private boolean changes() {
      return sampling.isPenalised()
          || !sampling.logitBias().isEmpty()
          || !sampling.allowedTokens().isEmpty()
          || minTokens > 0;
    }

    boolean wantsAlternatives() {
      return wanted.top() > 0 || named.length > 0;
    }

    private int how(int index) {
      return (index < minTokens ? STOPS_ARE_EARLY : 0)
          | (sampling.allowedTokens().isEmpty() ? 0 : ONLY_ALLOWED)
          | (sampling.isPenalised() ? COUNTS : 0);
    }

    @Override
    public void close() {
      if (table != null) {
        idleTables.add(table);
      }
    }
  }

  /** Begins a request of up to so many tokens. */
  Draws open(Request request, int maxTokens) {
    return new Draws(request, maxTokens);
  }

  /** A table of the tokens whose logits a request changes. */
  private Buffer table(Request request, int maxTokens) {
    Sampling sampling = request.sampling();
    Map<Integer, Integer> tokens = new TreeMap<>(); // what each is
    if (sampling.repetitionPenalty() != 1) {
      IntStream.of(request.prompt()).forEach(token -> tokens.put(token, IN_PROMPT));
    }
    sampling.logitBias().keySet().forEach(token -> tokens.merge(token, 0, (a, b) -> a | b));
    sampling.allowedTokens().forEach(token -> tokens.merge(token, IS_ALLOWED, (a, b) -> a | b));
    if (request.minTokens() > 0) {
      request.stopTokens().stream()
          .filter(token -> token >= 0 && token < vocabularySize)
          .forEach(token -> tokens.merge(token, IS_STOP, (a, b) -> a | b));
    }
    int most = tokens.size() + (sampling.isPenalised() ? maxTokens : 0);
    byte[] host = new byte[TABLE_BYTES + ENTRY_BYTES * tokens.size()];
    ByteBuffer entries = ByteBuffer.wrap(host).order(ByteOrder.nativeOrder());
    entries.putInt(tokens.size()).position(TABLE_BYTES);
    tokens.forEach(
        (token, is) ->
            entries
                .putInt(token)
                .putInt(is)
                .putInt(0)
                .putFloat(sampling.logitBias().getOrDefault(token, 0f))
                .putFloat(0));
    Buffer table = idleTable(TABLE_BYTES + (long) ENTRY_BYTES * Math.min(most, vocabularySize));
    table.copyFrom(MemorySegment.ofArray(host));
    return table;
  }

  /** The smallest that is large enough of those that no request has any more, or a new one. */
  private Buffer idleTable(long bytes) {
    Buffer smallest = null;
    for (Buffer table : idleTables) {
      if (table.bytes() >= bytes && (smallest == null || table.bytes() < smallest.bytes())) {
        smallest = table;
      }
    }
    if (smallest == null) {
      return scope.allocate(Math.max(1024, 2 * Long.highestOneBit(bytes - 1)));
    }
    idleTables.remove(smallest);
    return smallest;
  }

  /** Begins a step. */
  void begin() {
    count = 0;
    namesUsed = 0;
    resultsUsed = 0;
    topsUsed = 0;
    cutsUsed = 0;
    changed = 0;
    rewritten = 0;
    drawn = 0;
    toDraws.clear();
  }

  /** Has token number {@code index} of a request chosen from a row of logits. */
  void draw(Draws by, int row, int index) {
    Sampling sampling = by.sampling;
    add(by, row, -1, by.wanted.top(), index);
    if (by.table != null) {
      changed++;
      rewritten += sampling.allowedTokens().isEmpty() ? 0 : 1;
    }
    if (sampling.temperature() > 0) {
      drawn++;
      boolean cutsByRank = sampling.topK() > 0 && sampling.topK() < vocabularySize;
      cutsUsed += cutsByRank || sampling.topP() < 1 ? 1 : 0;
    }
  }

  /** Has told what a row of logits gives a token of the prompt. */
  void score(Draws by, int row, int token) {
    add(by, row, token, by.wanted.prompt(), 0);
  }

  private void add(Draws by, int row, int given, int likeliest, int index) {
    Sampling sampling = by.sampling;
    int top = Math.min(likeliest, vocabularySize);
    int named = by.named.length;
    queued[count] = by;
    outs[count++] = resultsUsed;
    toDraws
        .putLong(by.table == null ? 0 : by.table.address())
        .putLong(sampling.key(index))
        .putInt(row)
        .putInt(given)
        .putInt(resultsUsed)
        .putInt(cutsUsed)
        .putInt(topsUsed)
        .putInt(top)
        .putInt(named)
        .putInt(namesUsed)
        .putInt(by.how(index))
        .putInt(sampling.topK())
        .putFloat(sampling.temperature())
        .putFloat(sampling.topP())
        .putFloat(sampling.minP())
        .putFloat(sampling.repetitionPenalty())
        .putFloat(sampling.presencePenalty())
        .putFloat(sampling.frequencyPenalty());
    if (namesUsed + named > names.length) {
      names = Arrays.copyOf(names, 2 * (namesUsed + named));
    }
    System.arraycopy(by.named, 0, names, namesUsed, named);
    namesUsed += named;
    resultsUsed += 2 + 2 * top + named;
    topsUsed += top > 0 ? 1 : 0;
  }

  /** The draws that were asked for, and the ids that they name. */
  @Override
  public MemorySegment table() {
    int bytes = toDraws.position() + 4 * namesUsed;
    if (bytes > toDraws.capacity()) {
      makeDraws(2L * bytes);
    }
    for (int i = 0; i < namesUsed; i++) {
      toDraws.putInt(names[i]);
    }
    if (resultsUsed > told.length) {
      Buffer small = results; // until the larger one is there: it may not fit
      makeResults(2 * resultsUsed);
      small.close();
    }
    tops = withRoom(tops, 4L * Math.ceilDiv(vocabularySize, PART) * topsUsed);
    cuts = withRoom(cuts, (long) CUTS_BYTES * cutsUsed);
    return drawsSegment.asSlice(0, bytes);
  }

  private record Shape(
      int draws,
      boolean change,
      boolean cut,
      boolean draw,
      Buffer results,
      Buffer tops,
      Buffer cuts) {}

  @Override
  public Object shape() {
    return new Shape(count, changed > 0, cutsUsed > 0, drawn > 0, results, tops, cuts);
  }

  /**
   * Has the choices made that were asked for; rows of logits that a request changes are changed.
   */
  @Override
  public void queue(Buffer logits, Buffer table) {
    if (count == 0) {
      return;
    }
    toSample[1] = toCuts[0] = toDraw[1] = table;
    toSample[2] = toCuts[1] = toDraw[2] = logits;
    toSample[6] = tops;
    toSample[7] = toCuts[4] = toDraw[6] = cuts;
    toSample[8] = 0;
    Grid grid = Grid.of(count, Math.clamp(Math.ceilDiv(blocks, count), 1, segments));
    long row = 4L * vocabularySize;
    device.launch(sample, row * (count + topsUsed), grid, BLOCK, 0, toSample);
    if (changed > 0) {
      toSample[8] = 1;
      device.launch(sample, row * (changed + rewritten), grid, BLOCK, 0, toSample);
    }
    if (cutsUsed > 0) {
      device.launch(sampleCuts, row * cutsUsed, grid, BLOCK, 0, toCuts);
    }
    if (drawn > 0) {
      device.launch(sampleDraw, row * drawn, grid, BLOCK, 0, toDraw);
    }
  }

  /** Waits for what was queued; then it can be asked for. */
  void read() {
    if (count > 0) {
      results.copyTo(toldSegment.asSlice(0, 4L * resultsUsed));
    }
  }

  /** The buffer, or one twice as large as is needed where it is too small. */
  private Buffer withRoom(Buffer buffer, long bytes) {
    if (bytes == 0 || buffer != null && buffer.bytes() >= bytes) {
      return buffer;
    }
    Buffer larger = scope.allocate(buffer == null ? bytes : 2 * bytes); // before the other goes
    if (buffer != null) {
      buffer.close();
    }
    return larger;
  }

  /** The token of the step's draw or score number {@code number}, in the order of the calls. */
  int id(int number) {
    return told[outs[number]];
  }

  /** Its log-probability. */
  float logProbability(int number) {
    return Float.intBitsToFloat(told[outs[number] + 1]);
  }

  /** What its request wants to know beside it. */
  Alternatives alternatives(int number) {
    int[] named = queued[number].named;
    int first = outs[number] + 2;
    int end = number + 1 < count ? outs[number + 1] : resultsUsed;
    int top = (end - first - named.length) / 2;
    if (top + named.length == 0) {
      return Alternatives.NONE;
    }
    List<Alternatives.Candidate> likeliest = new ArrayList<>(top);
    for (int i = 0; i < top && told[end - top + i] >= 0; i++) {
      likeliest.add(candidate(told[end - top + i], first + i));
    }
    List<Alternatives.Candidate> others = new ArrayList<>(named.length);
    for (int i = 0; i < named.length; i++) {
      others.add(candidate(named[i], first + top + i));
    }
    return new Alternatives(likeliest, others);
  }

  private Alternatives.Candidate candidate(int token, int at) {
    return new Alternatives.Candidate(token, Float.intBitsToFloat(told[at]));
  }

  /** All of it. */
  Generation.Token token(int number) {
    return new Generation.Token(id(number), logProbability(number), alternatives(number));
  }
}
