package dev.halter.generation;

import dev.halter.device.OutOfDeviceMemoryException;
import dev.halter.device.Scope;
import dev.halter.model.Batch;
import dev.halter.model.Beginning;
import dev.halter.model.Capture;
import dev.halter.model.CaptureReader;
import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import dev.halter.model.LowerLayers;
import dev.halter.model.LowerLayers.Parting;
import dev.halter.model.LowerLayers.Reach;
import dev.halter.model.Site;
import dev.halter.model.SiteHook;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.SteeringReport;
import dev.halter.steering.SteeringSlots;
import dev.halter.steering.SteeringSlots.Steered;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.IdentityHashMap;
import java.util.Iterator;
import java.util.List;
import java.util.function.Consumer;

/**
 * Continuous batching: requests join and leave a running batch as they come and end. Each step runs
 * one token of every generating request and fills up with chunks of waiting prompts.
 *
 * <p>A request's pages of the KV cache are reserved for its whole length when it joins, so none is
 * ever thrown out again. Its text depends on itself alone, as far as the device's products do.
 *
 * <p>What requests have in common at their beginning is read once: keys and values depend on the
 * tokens up to there and on the edits made to them, so the cache keeps them for all that begin with
 * the same tokens and edits, whatever their plans do later. Where plans edit the same tokens, each
 * in its own way, their lower layers are shared up to the block where they part ({@link
 * LowerLayers}): such tokens begin there, in a run of their own. Of requests that begin alike and
 * come together the first reads and the others wait. {@link LanguageModel.Opening#sharePrefixes}
 * turns it off.
 *
 * <p>It belongs to the thread of its model: {@link LanguageModel} says what that means. {@link
 * #run(Iterator, Consumer)} serves what it is given to the end; an {@link AsyncEngine} over it
 * takes requests from any thread.
 */
public final class Engine implements AutoCloseable {
  private static final Site LOGITS = new Site(Site.Kind.LOGITS, -1);

  private final Llama model;
  private final boolean sharesPrefixes;
  private final Scope scope;
  private final SteeringSlots slots;
  private final Sampler sampler;
  private final CaptureReader captures;
  private final List<Sequence> running = new ArrayList<>();
  private final List<Sequence> order = new ArrayList<>(); // of the spans of the batch that runs
  private volatile Thread owner; // the only thread that may use it; null for whichever

  /** An engine over a model, which is not closed with it. */
  public Engine(Llama model) {
    this(model, true);
  }

  /**
   * As {@link #Engine(Llama)}.
   *
   * @param sharesPrefixes whether what requests have in common at their beginning is read once
   */
  public Engine(Llama model, boolean sharesPrefixes) {
    this(model, sharesPrefixes, SteeringSlots.IDLE_BYTES);
  }

  /**
   * As above.
   *
   * @param mostIdle bytes that plans without a request may hold
   */
  Engine(Llama model, boolean sharesPrefixes, long mostIdle) {
    this.model = model;
    this.sharesPrefixes = sharesPrefixes;
    this.scope = model.device().scope();
    try {
      this.slots = scope.add(new SteeringSlots(model, mostIdle));
      this.sampler = new Sampler(scope, model.config().vocabularySize(), model.limits().outputs());
      this.captures = new CaptureReader(scope, model);
    } catch (RuntimeException | Error e) {
      scope.closeAfter(e);
      throw e;
    }
  }

  /** A request to serve, and who hears of it, in the engine's thread and between two steps. */
  interface Job {
    Request request();

    /** A token of the result stands. */
    default void token(Generation.Token token) {}

    /** The request has left the batch, or was never in it. */
    void done(Result result);
  }

  private record Told(Request request, Consumer<Result> listener) implements Job {
    @Override
    public void done(Result result) {
      listener.accept(result);
    }
  }

  /**
   * What a step did.
   *
   * @param read tokens of prompts that the model read
   * @param shared tokens of prompts that it had not to read, since others begin with them
   * @param sharedLayers blocks that it had not to run for those that it read, over all of them
   * @param generated tokens chosen
   */
  record Step(int read, int shared, long sharedLayers, int generated) {}

  /** A running request. */
  private static final class Sequence {
    final Job job;
    final Request request;
    final Steered steered;
    final Sampler.Draws draws;
    final int id;
    final int maxTokens;
    final Beginning beginning; // null where it is not shared
    final Parting parting;
    final int[] stops; // in their order
    final int[] fed = new int[1]; // the token that a step feeds back
    final int[] fedSlot = new int[1]; // and its slot
    final int[] generated;
    final float[] logProbabilities;
    final List<Alternatives> alternatives = new ArrayList<>(); // of each token, or empty
    final List<Generation.Token> prompt = new ArrayList<>(); // if its log-probabilities are wanted
    boolean isBegun;
    Reach reach = Reach.NONE; // of the prompt's next tokens, as of the last look
    int count; // tokens generated
    int done; // tokens of prompt and generation that the model has seen
    RuntimeException failure; // of its listener, or of its capture

    Sequence(Job job, Steered steered, Sampler.Draws draws, int id, int maxTokens, boolean shares) {
      this.job = job;
      this.request = job.request();
      this.steered = steered;
      this.draws = draws;
      this.id = id;
      this.maxTokens = maxTokens;
      boolean hasBeginning = shares && request.prompt().length >= KvCache.WORTH_SHARING;
      this.beginning = hasBeginning ? steered.beginning(request.cacheSalt()) : null;
      // What is captured may lie in any layer.
      this.parting =
          hasBeginning && request.capture() == null
              ? steered.parting(request.cacheSalt())
              : Parting.NONE;
      this.stops = request.stopTokens().stream().mapToInt(Integer::intValue).sorted().toArray();
      this.generated = new int[maxTokens];
      this.logProbabilities = new float[maxTokens];
      if (request.logProbabilities().wantsPrompt()) {
        prompt.add(new Generation.Token(request.prompt()[0], Float.NaN, Alternatives.NONE));
      }
    }

    boolean isPrompt() {
      return done < request.prompt().length;
    }

    /** A generated token. */
    Generation.Token token(int index) {
      return new Generation.Token(
          generated[index],
          logProbabilities[index],
          alternatives.isEmpty() ? Alternatives.NONE : alternatives.get(index));
    }

    /** Whether it has all its tokens. */
    boolean isDone() {
      return !isPrompt() && (isStopped() || count == maxTokens);
    }

    /** Whether the last generated token ends it. */
    boolean isStopped() {
      return count > 0 && Arrays.binarySearch(stops, generated[count - 1]) >= 0;
    }

    /** What it has; the token that stopped it is none of its tokens. */
    Result result(Result.Finish finish, SteeringReport report) {
      boolean isStopped = isStopped();
      int tokens = isStopped ? count - 1 : count;
      return new Result(
          request,
          Arrays.copyOf(generated, tokens),
          Arrays.copyOf(logProbabilities, tokens),
          alternatives.isEmpty() ? List.of() : List.copyOf(alternatives.subList(0, tokens)),
          isStopped ? token(tokens) : null,
          List.copyOf(prompt),
          finish,
          report,
          null);
    }

    /**
     * What it may have from others: what is to be captured must be read, and the last token for its
     * logits.
     */
    Beginning sharable() {
      int length = request.prompt().length;
      int most = request.capture() == null ? length : request.capture().first();
      return beginning.first(Math.min(Math.min(length - 1, most), firstOutput()));
    }

    /** The first token of the prompt whose logits are wanted; its length if none is. */
    int firstOutput() {
      int length = request.prompt().length;
      int first = maxTokens > 0 ? length - 1 : length;
      Capture capture = request.capture();
      if (capture != null && capture.wants(LOGITS)) {
        first = Math.min(first, capture.first());
      }
      return request.logProbabilities().wantsPrompt() ? 0 : first;
    }

    /** Tokens of the prompt that the logits of a span of it, which was run last, are before. */
    int scored(Batch.Span span) {
      if (!request.logProbabilities().wantsPrompt()) {
        return 0;
      }
      int end = Math.min(span.position() + span.length(), request.prompt().length - 1);
      return Math.max(0, end - span.position() - span.firstOutput());
    }
  }

  /** The model that it runs. */
  public Llama model() {
    return model;
  }

  /** Longest prompt and generation together, in tokens. */
  public int maxTokens() {
    return Math.min(model.limits().maxTokens(), model.cache().maxTokens());
  }

  /**
   * Serves requests and returns their results in the order of the requests. Blocks until all are
   * served; one that cannot be is a result with its failure and costs the others nothing.
   */
  public List<Result> run(List<Request> requests) {
    IdentityHashMap<Request, Result> results = new IdentityHashMap<>();
    run(requests.iterator(), result -> results.put(result.request(), result));
    return requests.stream().map(results::get).toList();
  }

  /** Serves one request: as {@link #run(List)}, so see {@link Result#orThrow}. */
  public Result run(Request request) {
    return run(List.of(request)).getFirst();
  }

  /**
   * Serves requests as they can be had from {@code requests}, as many at once as fit, and gives
   * each result to {@code done} as soon as it stands.
   */
  public void run(Iterator<Request> requests, Consumer<Result> done) {
    requireOwner();
    Job waiting = null;
    try {
      while (true) {
        while (waiting != null || requests.hasNext()) {
          waiting = waiting == null ? new Told(requests.next(), done) : waiting;
          if (!join(waiting)) {
            break;
          }
          waiting = null;
        }
        if (running.isEmpty()) {
          return;
        }
        step(step -> {});
      }
    } finally {
      leaveAll(); // only after a failure is anything left
    }
  }

  /**
   * Takes a request into the batch, or tells it that it cannot be served; false if it must wait for
   * room. Then no other is to be asked for before it has joined: small ones would overtake one that
   * needs many pages for ever.
   */
  boolean join(Job job) {
    Request request = job.request();
    KvCache cache = model.cache();
    try {
      checkTokens(request);
      int prompt = request.prompt().length;
      int maxTokens = Math.min(request.maxTokens(), maxTokens() - prompt);
      int length = prompt + Math.max(0, maxTokens - 1);
      if (cache.sequencesFree() == 0 || KvCache.pagesFor(length) > cache.pagesFree()) {
        if (running.isEmpty()) {
          throw new IllegalStateException("the cache has no room, although nothing runs");
        }
        return false;
      }
      slots.check(request.plan(), request.prompt());
      Sampler.Draws draws = sampler.open(request, maxTokens);
      int id = cache.open();
      cache.reserve(id, length);
      Steered steered = slots.open(request.plan(), request.prompt(), id);
      running.add(new Sequence(job, steered, draws, id, maxTokens, sharesPrefixes));
    } catch (IllegalArgumentException e) {
      job.done(Result.failed(request, e));
    }
    return true;
  }

  /**
   * Whether a request can be served at all.
   *
   * @throws IllegalArgumentException saying why not
   */
  public void check(Request request) {
    requireOwner();
    checkTokens(request);
    slots.check(request.plan(), request.prompt());
  }

  private void checkTokens(Request request) {
    int prompt = request.prompt().length;
    if (prompt == 0) {
      throw new IllegalArgumentException("the prompt is empty: it needs at least one token");
    }
    if (request.maxTokens() < 0) {
      throw new IllegalArgumentException("max_tokens is " + request.maxTokens() + ", below 0");
    }
    if (request.minTokens() < 0 || request.minTokens() > request.maxTokens()) {
      throw new IllegalArgumentException(
          "min_tokens is %d, must be 0 to max_tokens, %d"
              .formatted(request.minTokens(), request.maxTokens()));
    }
    if (prompt > maxTokens() || prompt == maxTokens() && request.maxTokens() > 0) {
      throw new IllegalArgumentException(
          "the prompt has %,d tokens; with what is to be generated at most %,d fit: %s"
              .formatted(
                  prompt,
                  maxTokens(),
                  maxTokens() < model.config().maxPositions()
                      ? "--context takes up to " + model.config().maxPositions()
                      : "the model has no more positions"));
    }
    if (request.capture() != null && request.capture().length() != prompt) {
      throw new IllegalArgumentException(
          "the capture is for %,d tokens, the prompt has %,d"
              .formatted(request.capture().length(), prompt));
    }
    for (int token : request.prompt()) {
      checkToken("token", token);
    }
    request
        .sampling()
        .logitBias()
        .keySet()
        .forEach(token -> checkToken("logit_bias: token", token));
    request.sampling().allowedTokens().forEach(token -> checkToken("allowed token", token));
    request.logProbabilities().tokens().forEach(token -> checkToken("logprobs: token", token));
  }

  private void checkToken(String what, int token) {
    int vocabulary = model.config().vocabularySize();
    if (token < 0 || token >= vocabulary) {
      throw new IllegalArgumentException(
          what + " " + token + " is not in the vocabulary: ids are 0 to " + (vocabulary - 1));
    }
  }

  /**
   * Whether a plan can steer this model at all; whether it selects any of a prompt's tokens is
   * checked with the request.
   *
   * @throws IllegalArgumentException saying why not
   */
  public void check(SteeringPlan plan) {
    requireOwner();
    slots.check(plan);
  }

  /**
   * Runs one step of all that are running: first the prompts that begin at a later block, those
   * that begin where the first one does, then all that begin at the first block. A failure of the
   * device goes through: then nothing that runs can be relied on.
   *
   * @param done hears what each of the two did, before those hear whose requests end with it
   */
  void step(Consumer<Step> done) {
    slots.beginStep();
    int shared = stepAbove(beginPrompts(), done);
    captures.begin();
    Batch batch = new Batch();
    order.clear();
    int rows = model.limits().rows();
    int outputs = model.limits().outputs();
    for (Sequence sequence : running) {
      if (!sequence.isPrompt() && batch.rows() < rows && batch.outputs() < outputs) {
        sequence.fed[0] = sequence.generated[sequence.count - 1];
        capture(add(batch, sequence, sequence.fed, sequence.fedSlot, 0), sequence);
        order.add(sequence);
      }
    }
    int generating = batch.rows();
    for (Sequence sequence : running) {
      if (sequence.isPrompt() && sequence.isBegun && sequence.reach.layer() == 0) {
        addPrompt(batch, sequence);
      }
    }
    if (!order.isEmpty()) {
      run(batch, batch.rows() - generating, shared, done);
    }
  }

  /** Begins what prompts may; the tokens that they have from others. */
  private int beginPrompts() {
    int shared = 0;
    for (Sequence sequence : running) {
      if (sequence.isPrompt()) {
        int before = sequence.done;
        begin(sequence);
        shared += sequence.done - before;
      }
    }
    return shared;
  }

  /**
   * Runs prompts whose next tokens begin at a later block, if there are any; of {@code shared},
   * tokens had from others, those of which nobody has heard yet.
   */
  private int stepAbove(int shared, Consumer<Step> done) {
    captures.begin();
    Batch batch = null;
    order.clear();
    for (Sequence sequence : running) {
      if (sequence.isPrompt() && sequence.isBegun) {
        sequence.reach = model.lower().reach(sequence.parting, sequence.done);
        int layer = sequence.reach.layer();
        batch = batch == null && layer > 0 ? new Batch(layer) : batch;
        if (batch != null && layer == batch.firstLayer()) {
          addPrompt(batch, sequence);
        }
      }
    }
    if (order.isEmpty()) {
      return shared;
    }
    run(batch, batch.rows(), shared, done);
    return 0;
  }

  /** Runs the spans of {@code order}, and what follows from it. */
  private void run(Batch batch, int read, int shared, Consumer<Step> done) {
    for (int i = 0; i < order.size(); i++) {
      if (order.get(i).isPrompt()) {
        model.lower().leave(batch, batch.spans().get(i), order.get(i).parting);
      }
    }
    SiteHook hook = hook();
    choose(batch);
    model.forward(batch, slots.table(), hook, sampler);
    model.lower().finish();
    captures.finish();
    slots.report(batch, span -> order.get(span).steered);
    prepare();
    sampler.read();
    int generated = take(batch);
    done.accept(new Step(read, shared, (long) read * batch.firstLayer(), generated));
    for (int i = 0; i < order.size(); i++) {
      Sequence sequence = order.get(i);
      boolean reads = sequence.isPrompt();
      sequence.done += batch.spans().get(i).length();
      if (reads) {
        keep(sequence);
      }
    }
    finish();
    order.clear(); // what has left is nobody's any more
  }

  /** While the device runs a step, finds the slots of prompts that are still to be read. */
  private void prepare() {
    try {
      for (Sequence sequence : running) {
        if (sequence.isPrompt() && sequence.isBegun) {
          sequence.steered.prepare(sequence.done);
        }
      }
    } catch (OutOfDeviceMemoryException e) {
      // The step that needs them asks again, and by then requests may have left.
    }
  }

  /** What captures read; what there is no memory for costs those alone who asked for it. */
  private SiteHook hook() {
    try {
      return captures.hook();
    } catch (OutOfDeviceMemoryException e) {
      captures.begin();
      for (Sequence sequence : order) {
        if (sequence.request.capture() != null) {
          sequence.failure = e;
        }
      }
      return null;
    }
  }

  /**
   * Gives a prompt what is known of it, unless it has begun already or is to wait for one in front
   * of it that reads the same tokens now.
   */
  private void begin(Sequence sequence) {
    if (sequence.isBegun) {
      return;
    }
    if (sequence.beginning != null) {
      Beginning sharable = sequence.sharable();
      int known = model.cache().known(sharable);
      long gain = model.lower().worthWaiting(sequence.parting, known);
      for (Sequence other : running) {
        if (other.isBegun
            && other.isPrompt()
            && other.beginning != null
            && (sharable.sharable(sharable.common(other.beginning)) >= known + KvCache.WORTH_SHARING
                || sequence.parting.gain(other.parting) >= gain)) {
          return;
        }
      }
      sequence.done = model.cache().share(sequence.id, sharable);
      sequence.steered.has(sequence.done);
    }
    sequence.isBegun = true;
  }

  /** Makes known what a prompt has read, as far as others can have it. */
  private void keep(Sequence sequence) {
    if (sequence.beginning == null) {
      return;
    }
    int read = Math.min(sequence.done, sequence.beginning.length());
    int sharable = sequence.beginning.sharable(read);
    if (sharable >= KvCache.WORTH_SHARING) {
      model.cache().keep(sequence.id, sequence.beginning.first(sharable));
    }
  }

  /** Adds as much of a prompt as fits the step. */
  private void addPrompt(Batch batch, Sequence sequence) {
    int[] prompt = sequence.request.prompt();
    int end = batch.firstLayer() > 0 ? sequence.reach.end() : prompt.length;
    int count = Math.min(end - sequence.done, model.limits().rows() - batch.rows());
    int outputs = model.limits().outputs() - batch.outputs();
    // Tokens from the first with logits on count twice: as rows and as outputs.
    int before = Math.max(0, sequence.firstOutput() - sequence.done);
    count = Math.min(count, before + outputs);
    int firstOutput = Math.min(before, count);
    if (count == 0) {
      return;
    }
    int[] tokens = Arrays.copyOfRange(prompt, sequence.done, sequence.done + count);
    Batch.Span span = add(batch, sequence, tokens, new int[count], firstOutput);
    if (batch.firstLayer() > 0) {
      model.lower().take(batch, span, sequence.parting);
    }
    capture(span, sequence);
    order.add(sequence);
  }

  private void capture(Batch.Span span, Sequence sequence) {
    if (sequence.request.capture() != null) {
      captures.read(span, sequence.request.capture());
    }
  }

  private static Batch.Span add(
      Batch batch, Sequence sequence, int[] tokens, int[] slots, int firstOutput) {
    sequence.steered.slots(sequence.done, tokens, slots);
    return batch.add(sequence.id, sequence.done, tokens, slots, firstOutput);
  }

  /**
   * Has the next token chosen of every request that will have seen all its tokens, and read what
   * the prompts of those have that want to know.
   */
  private void choose(Batch batch) {
    sampler.begin();
    for (int i = 0; i < order.size(); i++) {
      Sequence sequence = order.get(i);
      Batch.Span span = batch.spans().get(i);
      int[] prompt = sequence.request.prompt();
      int scored = sequence.scored(span);
      for (int j = 0; j < scored; j++) {
        int next = span.position() + span.firstOutput() + j + 1;
        sampler.score(sequence.draws, span.firstOutputRow() + j, prompt[next]);
      }
      if (draws(sequence, span)) {
        int row = span.firstOutputRow() + span.length() - span.firstOutput() - 1;
        sampler.draw(sequence.draws, row, sequence.count);
      }
    }
  }

  /** Takes what was chosen and read, and counts the tokens chosen. */
  private int take(Batch batch) {
    int number = 0;
    int chosen = 0;
    for (int i = 0; i < order.size(); i++) {
      Sequence sequence = order.get(i);
      Batch.Span span = batch.spans().get(i);
      int scored = sequence.scored(span);
      for (int j = 0; j < scored; j++) {
        sequence.prompt.add(sampler.token(number++));
      }
      if (draws(sequence, span)) {
        take(sequence, number++);
        chosen++;
      }
    }
    return chosen;
  }

  /** Whether a sequence whose span was run is to get its next token. */
  private static boolean draws(Sequence sequence, Batch.Span span) {
    return sequence.maxTokens > 0
        && sequence.done + span.length() >= sequence.request.prompt().length;
  }

  private void take(Sequence sequence, int number) {
    int index = sequence.count++;
    sequence.generated[index] = sampler.id(number);
    sequence.logProbabilities[index] = sampler.logProbability(number);
    if (sequence.draws.wantsAlternatives()) {
      sequence.alternatives.add(sampler.alternatives(number));
    }
    if (sequence.generated[index] >= 0) {
      tell(sequence, sequence.token(index));
    }
  }

  /** Tells of a token; a listener that throws ends its own request and no other. */
  private static void tell(Sequence sequence, Generation.Token token) {
    Request request = sequence.request;
    try {
      if (request.listener() != null) {
        request.listener().token(token);
      }
    } catch (RuntimeException e) {
      sequence.failure = e;
    } catch (Error e) {
      sequence.failure =
          new IllegalStateException(
              "the listener of '%s' failed: %s".formatted(request.id(), e), e);
    }
    if (sequence.failure == null && !sequence.isStopped()) {
      sequence.job.token(token);
    }
  }

  /** Lets those of the step go that are done, whose reports are read together. */
  private void finish() {
    List<Sequence> ended = new ArrayList<>();
    for (Sequence sequence : order) {
      RuntimeException failure = failure(sequence);
      if (failure != null) {
        leave(sequence, Result.failed(sequence.request, failure));
      } else if (sequence.isDone()) {
        ended.add(sequence);
      }
    }
    if (ended.isEmpty()) {
      return;
    }
    List<SteeringReport> reports = slots.reports(ended.stream().map(each -> each.steered).toList());
    for (int i = 0; i < reports.size(); i++) {
      Sequence sequence = ended.get(i);
      Result.Finish how = sequence.isStopped() ? Result.Finish.STOP : Result.Finish.LENGTH;
      leave(sequence, sequence.result(how, reports.get(i)));
    }
  }

  /** Why a sequence cannot go on, or null. */
  private static RuntimeException failure(Sequence sequence) {
    if (sequence.failure != null || sequence.isPrompt() || sequence.count == 0) {
      return sequence.failure;
    }
    int last = sequence.generated[sequence.count - 1];
    return last < 0 ? new IllegalArgumentException(nothing(sequence, last)) : null;
  }

  /** Why there was no token to choose. */
  private static String nothing(Sequence sequence, int token) {
    Request request = sequence.request;
    if (token == Sampler.FORBIDDEN) {
      return "after %d tokens every token is forbidden by logit_bias, allowed tokens or min_tokens"
          .formatted(sequence.done);
    }
    return "the logits after %d tokens are not numbers: %s"
        .formatted(
            sequence.done,
            request.plan().interventions().isEmpty()
                ? "the model overflows with this --dtype, or its weights are damaged"
                : "the plan's values are too large");
  }

  /** Ends a running request between two steps: its result is what it has. */
  void cancel(Job job, Result.Finish finish) {
    for (Sequence sequence : running) {
      if (sequence.job == job) {
        SteeringReport report = slots.reports(List.of(sequence.steered)).getFirst();
        leave(sequence, sequence.result(finish, report));
        return;
      }
    }
  }

  private void leave(Sequence sequence, Result result) {
    leave(sequence);
    sequence.job.done(result);
  }

  private void leave(Sequence sequence) {
    running.remove(sequence);
    sequence.steered.close();
    sequence.draws.close();
    model.cache().release(sequence.id);
  }

  /** Gives back what running requests hold, and tells nobody. */
  void leaveAll() {
    List.copyOf(running).forEach(this::leave);
  }

  /** Makes it a thread's own, until {@link #release}. */
  synchronized void claim(Thread thread) {
    if (owner != null) {
      throw new IllegalStateException("the engine has an AsyncEngine already: share that one");
    }
    owner = thread;
  }

  void release() {
    owner = null;
  }

  private void requireOwner() {
    Thread only = owner;
    if (only != null && only != Thread.currentThread()) {
      throw new IllegalStateException(
          "the engine belongs to its AsyncEngine: submit requests to that, or close it first");
    }
  }

  @Override
  public void close() {
    requireOwner();
    scope.close();
  }
}
