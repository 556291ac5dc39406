package dev.halter.generation;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Grid;
import dev.halter.device.Kernel;
import dev.halter.device.Scope;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/** Chooses the next token of each row of logits on the device ({@code cuda-kernels/sample.cu}). */
final class Sampler {
  /** What is chosen where the logits are not numbers. */
  static final int NOTHING = -1;

  /** What is chosen where there are numbers, but no token may be chosen. */
  static final int FORBIDDEN = -2;

  private static final int BLOCK = 1024;

  private final Device device;
  private final Kernel kernel;
  private final int vocabularySize;
  private final Buffer tokens;
  private final Buffer logProbabilities;
  private final Buffer temperatures;
  private final Buffer topKs;
  private final Buffer topPs;
  private final Buffer keys;
  private final List<Item> items = new ArrayList<>();
  private final List<Generation.Token> results = new ArrayList<>();

  private record Item(Draws draws, int row, int index, int given) {}

  /** For up to {@code rows} rows; its buffers live in {@code scope}. */
  Sampler(Scope scope, int vocabularySize, int rows) {
    this.device = scope.device();
    this.vocabularySize = vocabularySize;
    this.kernel = device.kernel("sample");
    this.tokens = scope.allocate(4L * rows);
    this.logProbabilities = scope.allocate(4L * rows);
    this.temperatures = scope.allocate(4L * rows);
    this.topKs = scope.allocate(4L * rows);
    this.topPs = scope.allocate(4L * rows);
    this.keys = scope.allocate(8L * rows);
  }

  /** Passes over a row of logits, as the kernel's contract counts them. */
  private int passes(Sampling sampling) {
    if (sampling.temperature() == 0) {
      return 1;
    }
    boolean cutsByRank = sampling.topK() > 0 && sampling.topK() < vocabularySize;
    return 2 + (cutsByRank ? 3 : 0) + (sampling.topP() < 1 ? 3 : 0);
  }

  /** What one request draws by. */
  static final class Draws implements AutoCloseable {
    private final Request request;
    private final Map<Integer, Integer> counts = new HashMap<>(); // of generated tokens
    private final Set<Integer> seen = new HashSet<>(); // of the prompt and generated

    private Draws(Request request) {
      this.request = request;
      IntStream.of(request.prompt()).forEach(seen::add);
    }

    boolean wantsAlternatives() {
      LogProbabilities wanted = request.logProbabilities();
      return wanted.top() > 0 || !wanted.tokens().isEmpty();
    }

    private boolean hasExtras() {
      Sampling sampling = request.sampling();
      return sampling.isPenalised()
          || sampling.minP() > 0
          || !sampling.logitBias().isEmpty()
          || !sampling.allowedTokens().isEmpty()
          || request.minTokens() > 0
          || wantsAlternatives();
    }

    /** Changes a row in place. */
    private void change(float[] row, int index) {
      Sampling sampling = request.sampling();
      for (int id = 0; id < row.length; id++) {
        if (!sampling.allowedTokens().isEmpty() && !sampling.allowedTokens().contains(id)
            || index < request.minTokens() && request.stopTokens().contains(id)) {
          row[id] = Float.NEGATIVE_INFINITY;
        }
        row[id] += sampling.logitBias().getOrDefault(id, 0f);
        if (seen.contains(id) && sampling.isPenalised()) {
          float penalty = sampling.repetitionPenalty();
          row[id] = row[id] < 0 ? row[id] * penalty : row[id] / penalty;
          int count = counts.getOrDefault(id, 0);
          row[id] -= sampling.frequencyPenalty() * count;
          row[id] -= count > 0 ? sampling.presencePenalty() : 0;
        }
      }
      if (sampling.minP() > 0 && sampling.temperature() > 0) {
        float top = max(row);
        float cut = (float) (top + sampling.temperature() * Math.log(sampling.minP()));
        for (int id = 0; id < row.length; id++) {
          row[id] = row[id] < cut ? Float.NEGATIVE_INFINITY : row[id];
        }
      }
    }

    @Override
    public void close() {}
  }

  private static float max(float[] row) {
    float top = Float.NEGATIVE_INFINITY;
    for (float value : row) {
      top = value > top ? value : top;
    }
    return top;
  }

  /** Begins a request of up to so many tokens. */
  Draws open(Request request, int maxTokens) {
    return new Draws(request);
  }

  /** Begins a step. */
  void begin() {
    items.clear();
    results.clear();
  }

  /** Has token number {@code index} of a request chosen from a row of logits. */
  void draw(Draws draws, int row, int index) {
    items.add(new Item(draws, row, index, -1));
  }

  /** Has told what a row of logits gives a token of the prompt. */
  void score(Draws draws, int row, int token) {
    items.add(new Item(draws, row, 0, token));
  }

  int id(int number) {
    return results.get(number).id();
  }

  float logProbability(int number) {
    return results.get(number).logProbability();
  }

  Alternatives alternatives(int number) {
    return results.get(number).alternatives();
  }

  Generation.Token token(int number) {
    return results.get(number);
  }

  /** Runs what was asked for, over logits [·, vocabulary] f32, which may be changed. */
  void run(Buffer logits) {
    if (items.isEmpty()) {
      return;
    }
    int rows = items.stream().mapToInt(item -> item.row).max().getAsInt() + 1;
    float[] temperature = new float[rows];
    int[] topK = new int[rows];
    float[] topP = new float[rows];
    long[] key = new long[rows];
    long passes = rows; // over a row of logits, see the kernel
    Map<Item, float[]> raw = new HashMap<>();
    for (Item item : items) {
      Sampling sampling = item.draws.request.sampling();
      temperature[item.row] = sampling.temperature();
      topK[item.row] = sampling.topK();
      topP[item.row] = sampling.topP();
      key[item.row] = sampling.key(item.index);
      passes += passes(sampling) - 1;
      if (item.given >= 0 || item.draws.hasExtras()) {
        Buffer place = logits.slice(4L * vocabularySize * item.row);
        float[] row = place.toFloats(vocabularySize);
        raw.put(item, row.clone());
        if (item.given < 0) {
          item.draws.change(row, item.index);
          place.set(row);
        }
      }
    }
    temperatures.set(temperature);
    topKs.set(topK);
    topPs.set(topP);
    keys.copyFrom(MemorySegment.ofArray(key));
    device.launch(
        kernel,
        4L * passes * vocabularySize,
        Grid.of(rows),
        BLOCK,
        0,
        tokens,
        logProbabilities,
        logits,
        vocabularySize,
        temperatures,
        topKs,
        topPs,
        keys);
    int[] chosen = tokens.toInts(rows);
    float[] probabilities = logProbabilities.toFloats(rows);
    for (Item item : items) {
      float[] row = raw.get(item);
      int id = item.given >= 0 ? item.given : chosen[item.row];
      if (row == null || id < 0) {
        int result = id < 0 && row != null && max(row) > Float.NEGATIVE_INFINITY ? FORBIDDEN : id;
        results.add(new Generation.Token(result, probabilities[item.row], Alternatives.NONE));
        continue;
      }
      if (item.given < 0) {
        item.draws.seen.add(id);
        item.draws.counts.merge(id, 1, Integer::sum);
      }
      results.add(told(item, row, id));
    }
  }

  private static Generation.Token told(Item item, float[] row, int id) {
    double top = max(row);
    double sum = 0;
    for (float value : row) {
      sum += Math.exp(value - top);
    }
    double all = top + Math.log(sum);
    LogProbabilities wanted = item.draws.request.logProbabilities();
    List<Alternatives.Candidate> likeliest =
        IntStream.range(0, row.length)
            .boxed()
            .sorted(Comparator.comparing((Integer other) -> -row[other]))
            .limit(item.given < 0 ? wanted.top() : wanted.prompt())
            .map(other -> new Alternatives.Candidate(other, (float) (row[other] - all)))
            .toList();
    List<Alternatives.Candidate> named =
        wanted.tokens().stream()
            .map(other -> new Alternatives.Candidate(other, (float) (row[other] - all)))
            .toList();
    return new Generation.Token(id, (float) (row[id] - all), new Alternatives(likeliest, named));
  }
}
