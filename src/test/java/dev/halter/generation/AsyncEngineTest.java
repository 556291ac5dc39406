package dev.halter.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.CountingDevice;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.FailingDevice;
import dev.halter.device.OutOfDeviceMemoryException;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cuda.TestCuda;
import dev.halter.model.Capture;
import dev.halter.model.Edit;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.steering.SteeringPlan;
import dev.halter.steering.Trigger;
import java.lang.ref.WeakReference;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * Requests from any thread at any time. What is to happen at a certain moment is done by a
 * listener, which the engine's thread calls between two steps, so no test depends on how fast a
 * thread is.
 */
@Timeout(120) // for what hangs
class AsyncEngineTest {
  private static final int VOCABULARY = 128;
  private static final Llama.Limits ROOMY = new Llama.Limits(256, 64, 32, 64, 128);
  private static final Llama.Limits TIGHT = new Llama.Limits(7, 3, 2, 3, 128);
  private static final Llama.Limits ONE = new Llama.Limits(64, 8, 1, 2, 128);

  private interface Work {
    void on(AsyncEngine engine) throws Exception;
  }

  /** Does the work, closes the engine, and sees that nothing is left. */
  private static void with(Device device, Llama.Limits limits, Work work) throws Exception {
    try (device;
        Golden golden = new Golden("llama3");
        Llama model = Llama.load(golden.folder.resolve("model"), device, DType.F32, limits);
        Engine engine = new Engine(model)) {
      try (AsyncEngine async = new AsyncEngine(engine)) {
        work.on(async);
      }
      assertNothingIsLeft(model, limits);
    }
  }

  private static void assertNothingIsLeft(Llama model, Llama.Limits limits) {
    assertEquals(limits.sequences(), model.cache().sequencesFree());
    assertEquals(limits.pages(), model.cache().pagesFree());
  }

  private static void with(Llama.Limits limits, Work work) throws Exception {
    with(CpuDevice.open(2), limits, work);
  }

  private static Request request(String id, int prompt, int maxTokens) {
    int[] tokens = new Random(id.hashCode()).ints(prompt, 3, VOCABULARY).toArray();
    return Request.of(tokens).withId(id).withMaxTokens(maxTokens);
  }

  /** Does something in the engine's thread, at each token. */
  private static Request.Listener each(Runnable work) {
    return token -> work.run();
  }

  private static void await(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  private static SteeringPlan plan(Random random) {
    float[] vector = new float[48];
    for (int i = 0; i < vector.length; i++) {
      vector[i] = random.nextFloat(-3, 3);
    }
    Edit add = new Edit.Add(new Site(Site.Kind.RESID_POST, random.nextInt(2)), vector, 1);
    Edit heads = new Edit.Heads(new Site(Site.Kind.Z, 1), new int[] {0, 3}, random.nextFloat(4));
    Edit clamp = Edit.clamp(new Site(Site.Kind.PRE_LINEAR, 1), random.nextInt(80), 20);
    List<Trigger> triggers =
        List.of(Trigger.ALWAYS, Trigger.LAST, Trigger.GENERATION, Trigger.FROM_LAST);
    Trigger trigger = triggers.get(random.nextInt(triggers.size()));
    return SteeringPlan.of(List.of(add, heads, clamp).get(random.nextInt(3))).when(trigger);
  }

  /** Some share plans, some the beginnings of their prompts; half of them are sampled. */
  private static List<Request> randomRequests(int count) {
    Random random = new Random(7);
    List<SteeringPlan> plans = new ArrayList<>(List.of(SteeringPlan.NONE));
    List<Request> requests = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      if (i % 4 == 0) {
        plans.add(plan(random));
      }
      int[] beginning = new Random(i % 3).ints(random.nextInt(60), 3, VOCABULARY).toArray();
      int[] prompt = Arrays.copyOf(beginning, beginning.length + 1 + random.nextInt(20));
      for (int at = beginning.length; at < prompt.length; at++) {
        prompt[at] = random.nextInt(3, VOCABULARY);
      }
      requests.add(
          Request.of(prompt)
              .withId("r" + i)
              .withMaxTokens(random.nextInt(12))
              .withStopTokens(Set.of(5, 50, 77))
              .with(i % 2 == 0 ? Sampling.GREEDY : new Sampling(1, 40, 0.95f, i))
              .with(plans.get(random.nextInt(plans.size()))));
    }
    return requests;
  }

  /** Submits in an order of chance from four threads and waits for all. */
  private static Map<String, Generation> submitFromThreads(AsyncEngine engine, List<Request> all)
      throws InterruptedException {
    List<Request> shuffled = new ArrayList<>(all);
    Collections.shuffle(shuffled, new Random(all.size()));
    Map<String, Generation> generations = new ConcurrentHashMap<>();
    List<Thread> threads = new ArrayList<>();
    for (int thread = 0; thread < 4; thread++) {
      int first = thread;
      threads.add(
          Thread.ofVirtual()
              .start(
                  () -> {
                    for (int i = first; i < shuffled.size(); i += 4) {
                      Generation generation = engine.submit(shuffled.get(i));
                      generations.put(shuffled.get(i).id(), generation);
                      if (i % 16 == first) {
                        generation.result().join(); // so that some come late
                      }
                    }
                  }));
    }
    for (Thread thread : threads) {
      thread.join();
    }
    assertEquals(all.size(), generations.size());
    return generations;
  }

  @Test
  void resultsAreThoseOfTheRunWhateverTheOrderAndTheNeighbours() throws Exception {
    List<Request> requests = randomRequests(200);
    List<Result> expected = new ArrayList<>();
    List<Result> unsteered = new ArrayList<>();
    try (Device device = CpuDevice.open(2);
        Golden golden = new Golden("llama3");
        Llama model = Llama.load(golden.folder.resolve("model"), device, DType.F32, ROOMY);
        Engine engine = new Engine(model)) {
      for (Request request : requests) {
        expected.add(engine.run(request).orThrow());
        unsteered.add(engine.run(request.with(SteeringPlan.NONE)).orThrow());
      }
      List<Result> together = engine.run(requests);
      for (int i = 0; i < requests.size(); i++) {
        SameResults.assertSame(expected.get(i), together.get(i));
      }
    }
    long changed = 0;
    for (int i = 0; i < requests.size(); i++) {
      float[] steered = expected.get(i).logProbabilities();
      changed += Arrays.equals(steered, unsteered.get(i).logProbabilities()) ? 0 : 1;
    }
    assertTrue(changed > 100, "plans change " + changed);
    for (Llama.Limits limits : List.of(ROOMY, TIGHT)) {
      with(
          limits,
          engine -> {
            Map<String, Generation> generations = submitFromThreads(engine, requests);
            for (Result result : expected) {
              Generation generation = generations.get(result.request().id());
              SameResults.assertSame(result, generation.result().join());
              assertSame(result.request(), generation.result().join().request());
              assertArrayEquals(
                  result.tokens(),
                  generation.tokens().mapToInt(Generation.Token::id).toArray(),
                  result.request().id());
            }
          });
    }
  }

  /**
   * Cancelled at any moment, with a listener that throws, or too late: what a request has is the
   * beginning of what it would have had, and all others have all of it.
   */
  @Test
  void whateverEndsEarlyTheOthersAreTheSame() throws Exception {
    List<Request> requests = randomRequests(200);
    Map<String, Result> expected = new ConcurrentHashMap<>();
    with(
        ROOMY,
        engine ->
            submitFromThreads(engine, requests)
                .forEach((id, generation) -> expected.put(id, generation.result().join())));
    with(
        TIGHT,
        engine -> {
          List<Generation> generations = new ArrayList<>();
          Random random = new Random(5);
          for (int i = 0; i < requests.size(); i++) {
            Request request = requests.get(i);
            Request.Listener thrower =
                each(() -> raise(new UnsupportedOperationException("of " + request.id())));
            generations.add(
                switch (i % 10) {
                  case 0 -> engine.submit(request.with(thrower));
                  case 1 -> engine.submit(request, Duration.ZERO);
                  case 2 -> engine.submit(request, Duration.ofMillis(random.nextInt(200)));
                  default -> engine.submit(request);
                });
            if (i > 20 && i % 3 == 0) {
              generations.get(i - random.nextInt(20)).cancel();
            }
          }
          for (Generation generation : generations) {
            String id = generation.request().id();
            Result whole = expected.get(id);
            Result result =
                generation
                    .result()
                    .exceptionally(
                        failure -> {
                          assertEquals("of " + id, failure.getCause().getMessage());
                          return Result.unbegun(generation.request(), Result.Finish.CANCELLED);
                        })
                    .join();
            switch (result.finish()) {
              case CANCELLED, DEADLINE ->
                  assertArrayEquals(
                      Arrays.copyOf(whole.tokens(), result.tokens().length), result.tokens(), id);
              case STOP, LENGTH -> SameResults.assertSame(whole, result);
            }
          }
          EngineMetrics metrics = engine.metrics();
          assertEquals(0, metrics.running() + metrics.waiting() + metrics.pagesUsed());
          assertTrue(metrics.completed() >= 50, metrics.toString());
          assertTrue(metrics.expired() + metrics.cancelled() + metrics.failed() >= 20);
          assertEquals(200, total(metrics));
        });
  }

  /** A driver knows threads: its context has to be entered in the one that steps. */
  @Test
  void cudaIsSteppedByAThreadOfItsOwn() throws Exception {
    List<Request> requests = randomRequests(24);
    List<Result> expected = new ArrayList<>();
    try (Device device = TestCuda.open();
        Golden golden = new Golden("llama3");
        Llama model = Llama.load(golden.folder.resolve("model"), device, DType.F32, TIGHT);
        Engine engine = new Engine(model)) {
      expected.addAll(engine.run(requests));
      try (AsyncEngine async = new AsyncEngine(engine)) {
        Map<String, Generation> generations = submitFromThreads(async, requests);
        for (Result result : expected) {
          Result actual = generations.get(result.request().id()).result().join();
          SameResults.assertSame(result, actual);
        }
      }
      SameResults.assertSame(expected.getFirst(), engine.run(requests.getFirst()));
    }
  }

  @Test
  void tokensCanBeReadAsTheyCome() throws Exception {
    with(
        ROOMY,
        engine -> {
          CountDownLatch heard = new CountDownLatch(1);
          List<Integer> chosen = new ArrayList<>();
          Request request =
              request("r", 5, 6)
                  .with(
                      token -> {
                        if (chosen.size() == 1) {
                          await(heard); // the second is not had before the first was read
                        }
                        chosen.add(token.id());
                      });
          Generation generation = engine.submit(request);
          List<Integer> read = new ArrayList<>();
          generation
              .tokens()
              .forEach(
                  token -> {
                    assertEquals(
                        heard.getCount() == 0, generation.result().isDone() || !read.isEmpty());
                    read.add(token.id());
                    heard.countDown();
                  });
          assertEquals(6, read.size());
          assertEquals(chosen, read);
          assertArrayEquals(
              generation.result().join().logProbabilities(),
              floats(generation.tokens().map(Generation.Token::logProbability).toList()));
        });
  }

  private static float[] floats(List<Float> values) {
    float[] floats = new float[values.size()];
    for (int i = 0; i < floats.length; i++) {
      floats[i] = values.get(i);
    }
    return floats;
  }

  @Test
  void aReaderThatIsInterruptedSaysSoAndTheRequestGoesOn() throws Exception {
    with(
        ROOMY,
        engine -> {
          CountDownLatch read = new CountDownLatch(1);
          Generation generation = engine.submit(request("r", 5, 4).with(each(() -> await(read))));
          Thread.currentThread().interrupt();
          assertThrows(IllegalStateException.class, () -> generation.tokens().count() /* waits */);
          assertTrue(Thread.interrupted());
          read.countDown();
          assertEquals(4, generation.result().join().tokens().length);
        });
  }

  @Test
  void oneThatWaitsCanBeCancelled() throws Exception {
    with(
        ONE,
        engine -> {
          AtomicReference<Generation> waiting = new AtomicReference<>();
          CountDownLatch submitted = new CountDownLatch(1);
          Generation first =
              engine.submit(
                  request("first", 5, 3)
                      .with(
                          each(
                              () -> {
                                await(submitted);
                                waiting.get().cancel();
                              })));
          waiting.set(engine.submit(request("waiting", 5, 3)));
          Generation last = engine.submit(request("last", 5, 3));
          submitted.countDown();
          Result cancelled = waiting.get().result().join();
          assertEquals(Result.Finish.CANCELLED, cancelled.finish());
          assertEquals(0, cancelled.tokens().length);
          assertEquals(0, waiting.get().tokens().count());
          assertEquals(3, first.result().join().tokens().length);
          assertEquals(3, last.result().join().tokens().length);
          assertEquals(1, engine.metrics().cancelled());
          assertEquals(2, engine.metrics().queueTime().count());
        });
  }

  @Test
  void oneThatReadsItsPromptCanBeCancelled() throws Exception {
    CountingDevice device = new CountingDevice(CpuDevice.open(2));
    with(
        device,
        TIGHT,
        engine -> {
          AtomicReference<Generation> reading = new AtomicReference<>();
          CountDownLatch submitted = new CountDownLatch(1);
          List<Long> pages = new ArrayList<>();
          Runnable atEach =
              () -> {
                await(submitted);
                pages.add((long) engine.metrics().pagesUsed());
                if (pages.size() == 4) { // three steps of up to six tokens were read
                  reading.get().cancel();
                }
              };
          Generation neighbour = engine.submit(request("neighbour", 2, 9).with(each(atEach)));
          reading.set(engine.submit(request("reading", 70, 5).with(plan(new Random(1)))));
          submitted.countDown();
          Result cancelled = reading.get().result().join();
          assertEquals(Result.Finish.CANCELLED, cancelled.finish());
          assertEquals(0, cancelled.tokens().length);
          assertEquals(9, neighbour.result().join().tokens().length);
          assertEquals(3, pages.get(2), "pages of both");
          assertEquals(1, pages.get(5), "pages of the neighbour alone");
          int tokens = device.tokens();
          assertTrue(tokens > 2 + 8 && tokens < 2 + 8 + 30, tokens + " tokens were read");
        });
  }

  @Test
  void oneThatGeneratesCanBeCancelledAndKeepsWhatItHas() throws Exception {
    with(
        ROOMY,
        engine -> {
          Result whole = engine.submit(request("r", 9, 12)).result().join();
          AtomicReference<Generation> generating = new AtomicReference<>();
          CountDownLatch submitted = new CountDownLatch(1);
          AtomicLong heard = new AtomicLong();
          Runnable atEach =
              () -> {
                await(submitted);
                if (heard.incrementAndGet() == 5) {
                  generating.get().cancel();
                }
              };
          generating.set(engine.submit(request("r", 9, 12).with(each(atEach))));
          submitted.countDown();
          Result cancelled = generating.get().result().join();
          assertEquals(Result.Finish.CANCELLED, cancelled.finish());
          assertArrayEquals(Arrays.copyOf(whole.tokens(), 5), cancelled.tokens());
          assertEquals(5, cancelled.logProbabilities().length);
          assertEquals(5, generating.get().tokens().count());
          assertEquals(0, engine.metrics().pagesUsed());
          generating.get().cancel(); // again, after its end
          assertEquals(12, engine.submit(request("r", 9, 12)).result().join().tokens().length);
        });
  }

  @Test
  void aListenerThatThrowsCostsItsOwnRequestAlone() throws Exception {
    with(
        ROOMY,
        engine -> {
          Result expected = engine.submit(request("good", 9, 8)).result().join();
          RuntimeException exception = new UnsupportedOperationException("mine");
          AssertionError error = new AssertionError("mine too");
          Generation first = engine.submit(request("a", 5, 8).with(each(() -> raise(exception))));
          Generation good = engine.submit(request("good", 9, 8));
          Generation second = engine.submit(request("b", 5, 8).with(each(() -> raise(error))));
          assertSame(exception, failure(first));
          assertSame(error, failure(second).getCause());
          assertTrue(failure(second).getMessage().contains("listener of 'b'"));
          assertThrows(CompletionException.class, () -> first.tokens().toList());
          assertArrayEquals(expected.tokens(), good.result().join().tokens());
          assertEquals(2, engine.metrics().failed());
          assertEquals(0, engine.metrics().pagesUsed());
          // One that leaves the flag set does not end the engine either.
          Request rude = request("c", 5, 2).with(each(() -> Thread.currentThread().interrupt()));
          assertEquals(2, engine.submit(rude).result().join().tokens().length);
          assertEquals(8, engine.submit(request("good", 9, 8)).result().join().tokens().length);
        });
  }

  private static void raise(Throwable throwable) {
    if (throwable instanceof Error error) {
      throw error;
    }
    throw (RuntimeException) throwable;
  }

  private static Throwable failure(Generation generation) {
    return assertThrows(CompletionException.class, () -> generation.result().join()).getCause();
  }

  @Test
  void aListenerThatThrowsFailsItsRequestOfARunToo() {
    try (Device device = CpuDevice.open(2);
        Golden golden = new Golden("llama3");
        Llama model = Llama.load(golden.folder.resolve("model"), device, DType.F32, ROOMY);
        Engine engine = new Engine(model)) {
      RuntimeException exception = new UnsupportedOperationException("mine");
      List<Result> results =
          engine.run(
              List.of(
                  request("good", 9, 4), request("bad", 9, 4).with(each(() -> raise(exception)))));
      assertEquals(4, results.get(0).orThrow().tokens().length);
      assertSame(exception, results.get(1).failure());
      assertNothingIsLeft(model, ROOMY);
    }
  }

  @Test
  void aRequestThatCannotBeServedFailsAlone() throws Exception {
    with(
        ROOMY,
        engine -> {
          Generation good = engine.submit(request("good", 5, 4));
          List<Generation> bad = new ArrayList<>();
          bad.add(engine.submit(Request.of(new int[0])));
          bad.add(engine.submit(Request.of(new int[] {VOCABULARY})));
          bad.add(engine.submit(request("long", 129, 1)));
          Edit edit = Edit.clamp(new Site(Site.Kind.POST, 99), 1, 1);
          bad.add(engine.submit(request("plan", 5, 4).with(SteeringPlan.of(edit))));
          for (Generation generation : bad) {
            assertInstanceOf(IllegalArgumentException.class, failure(generation));
          }
          assertEquals(4, good.result().join().tokens().length);
          assertEquals(bad.size(), engine.metrics().failed());
          assertThrows(NullPointerException.class, () -> Request.of(null));
          assertThrows(NullPointerException.class, () -> engine.submit(null));
        });
  }

  @Test
  void capturesCanBeReadOnceTheResultStands() throws Exception {
    with(
        TIGHT,
        engine -> {
          Request request = request("r", 20, 0);
          Site site = new Site(Site.Kind.RESID_POST, 1);
          try (Golden golden = new Golden("llama3")) {
            Capture capture = new Capture(golden.config(), Set.of(site), 20);
            Capture wrong = new Capture(golden.config(), Set.of(site), 19);
            Generation failing = engine.submit(request.with(wrong));
            engine.submit(request.with(capture)).result().join();
            for (float value : capture.values().get(site)) {
              assertNotEquals(0, value);
            }
            String message = failure(failing).getMessage();
            assertTrue(message.contains("19") && message.contains("20"), message);
          }
        });
  }

  /** Tokens that are fed back are read like those of a prompt, whatever runs beside them. */
  @Test
  void capturesReadGeneratedTokensAsThoseOfAPrompt() throws Exception {
    Request plain = request("r", 20, 9);
    List<Site> sites = List.of(new Site(Site.Kind.RESID_POST, 1), new Site(Site.Kind.PATTERN, 1));
    with(
        ROOMY,
        engine -> {
          try (Golden golden = new Golden("llama3")) {
            Result alone = engine.submit(plain).result().join();
            int[] all = Arrays.copyOf(plain.prompt(), 28); // the last token is not fed back
            System.arraycopy(alone.tokens(), 0, all, 20, 8);
            Capture whole = new Capture(golden.config(), sites, 28);
            engine.submit(Request.of(all).withMaxTokens(0).with(whole)).result().join();
            List<Generation> neighbours = randomRequests(24).stream().map(engine::submit).toList();
            int[] some = {0, 3, 18};
            Capture capture =
                new Capture(golden.config(), sites, 20, some, (index, token) -> index != 2);
            Result read = engine.submit(plain.with(capture)).result().join();
            neighbours.forEach(each -> each.result().join());
            assertArrayEquals(alone.tokens(), read.tokens());
            assertArrayEquals(alone.logProbabilities(), read.logProbabilities());
            int[] positions = {0, 3, 18, 20, 21, 23, 24, 25, 26, 27};
            assertArrayEquals(positions, capture.positions());
            assertArrayEquals(new int[] {10, 48}, capture.shape(sites.get(0)));
            assertArrayEquals(new int[] {6, 10, 28}, capture.shape(sites.get(1)));
            for (Site site : sites) {
              for (int position : positions) {
                assertArrayEquals(whole.at(site, position), capture.at(site, position));
              }
            }
            assertThrows(IllegalArgumentException.class, () -> capture.at(sites.get(0), 22));
          }
        });
  }

  @Test
  void requestsGoOnWhileOtherWorkIsDone() throws Exception {
    List<Request> requests = randomRequests(40);
    Map<String, Result> expected = new ConcurrentHashMap<>();
    with(
        ROOMY,
        engine ->
            requests.forEach(each -> expected.put(each.id(), engine.submit(each).result().join())));
    with(
        TIGHT, // two sequences at once, of which the work must get one
        engine -> {
          CountDownLatch begun = new CountDownLatch(1);
          CountDownLatch submitted = new CountDownLatch(1);
          List<Generation> generations = new ArrayList<>();
          var work =
              engine.perform(
                  (model, pause) -> {
                    pause.pause(0);
                    begun.countDown();
                    await(submitted);
                    int pauses = 0;
                    while (generations.stream().anyMatch(each -> !each.result().isDone())) {
                      pause.pause(40);
                      int sequence = model.cache().open();
                      assertTrue(model.cache().reserve(sequence, 40));
                      model.cache().release(sequence);
                      pauses++;
                    }
                    return pauses;
                  });
          await(begun);
          requests.forEach(each -> generations.add(engine.submit(each)));
          submitted.countDown();
          assertTrue(work.join() > 0);
          for (Generation each : generations) {
            SameResults.assertSame(expected.get(each.request().id()), each.result().join());
          }
        });
  }

  @Test
  void workThatThrowsIsCancelledOrDoesNotFitCostsItselfAlone() throws Exception {
    with(
        TIGHT,
        engine -> {
          Generation other = engine.submit(request("r", 9, 9));
          var failing =
              engine.perform(
                  (model, pause) -> {
                    throw new IllegalStateException("no");
                  });
          var large =
              engine.perform(
                  (model, pause) -> {
                    pause.pause(1000);
                    return 0;
                  });
          var endless =
              engine.perform(
                  (model, pause) -> {
                    while (true) {
                      pause.pause(0);
                    }
                  });
          assertEquals(
              "no", assertThrows(CompletionException.class, failing::join).getCause().getMessage());
          String message = assertThrows(CompletionException.class, large::join).getMessage();
          assertTrue(message.contains("1,000"), message);
          assertEquals(9, other.result().join().tokens().length);
          endless.cancel(false);
          assertEquals(5, engine.submit(request("s", 9, 5)).result().join().tokens().length);
          var last =
              engine.perform(
                  (model, pause) -> {
                    while (true) {
                      pause.pause(0);
                    }
                  });
          engine.close(Duration.ofMillis(1));
          assertTrue(last.isCancelled());
          assertThrows(RejectedExecutionException.class, () -> engine.perform((model, p) -> 0));
        });
  }

  @Test
  void aDeadlineEndsARequestWithWhatItHas() throws Exception {
    AtomicLong clock = new AtomicLong();
    Llama.Limits limits = ONE;
    try (Device device = CpuDevice.open(2);
        Golden golden = new Golden("llama3");
        Llama model = Llama.load(golden.folder.resolve("model"), device, DType.F32, limits);
        Engine engine = new Engine(model)) {
      try (AsyncEngine async = new AsyncEngine(engine, 10, clock::get)) {
        CountDownLatch submitted = new CountDownLatch(1);
        Runnable second =
            () -> {
              await(submitted);
              clock.addAndGet(Duration.ofSeconds(1).toNanos());
            };
        Generation first =
            async.submit(request("a", 5, 50).with(each(second)), Duration.ofMillis(3500));
        Generation waiting = async.submit(request("b", 5, 4), Duration.ofSeconds(2));
        Generation patient = async.submit(request("c", 5, 4), Duration.ofSeconds(1000));
        submitted.countDown();
        Result late = first.result().join();
        assertEquals(Result.Finish.DEADLINE, late.finish());
        assertEquals(4, late.tokens().length);
        assertEquals(Result.Finish.DEADLINE, waiting.result().join().finish());
        assertEquals(0, waiting.result().join().tokens().length);
        assertEquals(Result.Finish.LENGTH, patient.result().join().finish());
        EngineMetrics metrics = async.metrics();
        assertEquals(2, metrics.expired());
        assertEquals(Duration.ofSeconds(4), metrics.queueTime().total());
        assertEquals(2, metrics.queueTime().count());
        assertEquals(Duration.ofSeconds(1 + 4), metrics.timeToFirstToken().total());
        assertThrows(
            IllegalArgumentException.class,
            () -> async.submit(request("d", 5, 4), Duration.ofSeconds(-1)));
      }
      assertNothingIsLeft(model, limits);
    }
  }

  @Test
  void aFullQueueRefusesAndTakesAgain() throws Exception {
    try (Device device = CpuDevice.open(2);
        Golden golden = new Golden("llama3");
        Llama model = Llama.load(golden.folder.resolve("model"), device, DType.F32, ONE);
        Engine engine = new Engine(model);
        AsyncEngine async = new AsyncEngine(engine, 3)) {
      CountDownLatch begun = new CountDownLatch(1);
      CountDownLatch full = new CountDownLatch(1);
      Runnable hold =
          () -> {
            begun.countDown();
            await(full);
          };
      Generation first = async.submit(request("first", 5, 2).with(each(hold)));
      await(begun);
      List<Generation> waiting = new ArrayList<>();
      for (int i = 0; i < 3; i++) {
        waiting.add(async.submit(request("w" + i, 5, 2)));
      }
      Request tooMany = request("too many", 5, 2);
      var refused = assertThrows(RejectedExecutionException.class, () -> async.submit(tooMany));
      assertTrue(refused.getMessage().contains("3 requests wait"), refused.getMessage());
      assertNull(refused.getCause());
      assertEquals(1, async.metrics().running());
      assertEquals(3, async.metrics().waiting());
      assertEquals(1, async.metrics().rejected());
      full.countDown();
      assertEquals(2, first.result().join().tokens().length);
      waiting.forEach(generation -> assertEquals(2, generation.result().join().tokens().length));
      assertEquals(2, async.submit(tooMany).result().join().tokens().length);
      assertThrows(IllegalArgumentException.class, () -> new AsyncEngine(engine, 0));
    }
  }

  /**
   * Two pages: a small request would fit beside the first, but one that needs both is before it.
   */
  @Test
  void smallRequestsDoNotOvertakeOneThatNeedsManyPages() throws Exception {
    for (boolean hasLarge : new boolean[] {false, true}) {
      with(
          new Llama.Limits(64, 8, 4, 2, 128),
          engine -> {
            List<String> order = Collections.synchronizedList(new ArrayList<>());
            CountDownLatch submitted = new CountDownLatch(1);
            Runnable hold =
                () -> {
                  await(submitted);
                  order.add("first");
                };
            List<Generation> all = new ArrayList<>();
            all.add(engine.submit(request("first", 5, 9).with(each(hold))));
            if (hasLarge) {
              all.add(engine.submit(request("large", 70, 1).with(each(() -> order.add("large")))));
            }
            for (int i = 0; i < 5; i++) {
              Request small = request("small" + i, 5, 1);
              all.add(engine.submit(small.with(each(() -> order.add("small")))));
            }
            submitted.countDown();
            all.forEach(generation -> generation.result().join());
            int ended = order.lastIndexOf("first");
            if (hasLarge) {
              assertEquals("large", order.get(ended + 1));
            } else {
              assertTrue(order.indexOf("small") < ended, "there is no room beside the first");
            }
          });
    }
  }

  @Test
  void closingServesWhatIsOpenAndTakesNoMore() throws Exception {
    List<Generation> all = new ArrayList<>();
    AtomicReference<AsyncEngine> closed = new AtomicReference<>();
    with(
        TIGHT,
        engine -> {
          for (int i = 0; i < 12; i++) {
            all.add(engine.submit(request("r" + i, 5 + i, 4)));
          }
          closed.set(engine);
          engine.close();
          all.forEach(generation -> assertTrue(generation.result().isDone()));
        });
    all.forEach(
        generation -> assertEquals(Result.Finish.LENGTH, generation.result().join().finish()));
    AsyncEngine engine = closed.get();
    Request late = request("late", 5, 4);
    var refused = assertThrows(RejectedExecutionException.class, () -> engine.submit(late));
    assertTrue(refused.getMessage().contains("closed"), refused.getMessage());
    engine.close(); // again
    assertEquals(12, engine.metrics().completed());
  }

  @Test
  void closingWithoutPatienceCancelsWhatIsOpen() throws Exception {
    for (boolean byInterrupt : new boolean[] {false, true}) {
      with(
          ONE,
          engine -> {
            Thread closing = Thread.currentThread();
            CountDownLatch begun = new CountDownLatch(3);
            Runnable holdUntilClosing =
                () -> {
                  begun.countDown();
                  while (begun.getCount() == 0 && closing.getState() == Thread.State.RUNNABLE) {
                    Thread.onSpinWait();
                  }
                };
            List<Generation> all = new ArrayList<>();
            all.add(engine.submit(request("r", 5, 123).with(each(holdUntilClosing))));
            all.add(engine.submit(request("w", 5, 123)));
            while (begun.getCount() > 0) {
              Thread.onSpinWait(); // waits for nothing else than the engine's end
            }
            if (byInterrupt) {
              Thread.currentThread().interrupt();
              engine.close();
              assertTrue(Thread.interrupted());
            } else {
              engine.close(Duration.ZERO);
            }
            for (Generation generation : all) {
              assertTrue(generation.result().isDone());
            }
            assertEquals(Result.Finish.CANCELLED, all.get(1).result().join().finish());
            assertEquals(0, all.get(1).result().join().tokens().length);
            assertTrue(all.get(0).result().join().tokens().length >= 3);
            assertEquals(0, engine.metrics().running() + engine.metrics().waiting());
          });
    }
  }

  @Test
  void aListenerCannotCloseTheEngine() throws Exception {
    with(
        ROOMY,
        engine -> {
          Generation closing = engine.submit(request("r", 5, 4).with(each(engine::close)));
          assertInstanceOf(IllegalStateException.class, failure(closing));
          assertEquals(4, engine.submit(request("r", 5, 4)).result().join().tokens().length);
        });
  }

  @Test
  void aFailureOfTheDeviceFailsWhatIsOpenAndWhatComes() throws Exception {
    List<RuntimeException> failures =
        List.of(
            new DeviceException("the card is gone"),
            new OutOfDeviceMemoryException(100, new Device.Memory(200, 50)),
            new IllegalStateException("a defect"));
    for (RuntimeException failure : failures) {
      FailingDevice device = new FailingDevice(CpuDevice.open(2));
      with(
          device,
          ONE,
          engine -> {
            CountDownLatch submitted = new CountDownLatch(1);
            Runnable fail =
                () -> {
                  await(submitted);
                  device.failWith(failure);
                };
            List<Generation> all = new ArrayList<>();
            all.add(engine.submit(request("running", 5, 4).with(each(fail))));
            all.add(engine.submit(request("waiting", 5, 4)));
            all.add(engine.submit(request("too", 5, 4)));
            submitted.countDown();
            for (Generation generation : all) {
              assertSame(failure, failure(generation));
              assertThrows(CompletionException.class, () -> generation.tokens().toList());
            }
            Request late = request("late", 5, 4);
            var refused = assertThrows(RejectedExecutionException.class, () -> engine.submit(late));
            assertSame(failure, refused.getCause());
            assertTrue(refused.getMessage().contains(failure.getMessage()), refused.getMessage());
            assertEquals(3, engine.metrics().failed());
            assertEquals(0, engine.metrics().running() + engine.metrics().waiting());
            device.failWith(null);
          });
    }
  }

  @Test
  void anEngineBelongsToOneThreadAtATime() throws Exception {
    try (Device device = CpuDevice.open(2);
        Golden golden = new Golden("llama3");
        Llama model = Llama.load(golden.folder.resolve("model"), device, DType.F32, ROOMY);
        Engine engine = new Engine(model)) {
      Request request = request("r", 5, 4);
      Result expected = engine.run(request);
      try (AsyncEngine async = new AsyncEngine(engine)) {
        assertThrows(IllegalStateException.class, () -> engine.run(request));
        assertThrows(IllegalStateException.class, () -> engine.check(request));
        assertThrows(IllegalStateException.class, () -> engine.check(SteeringPlan.NONE));
        assertThrows(IllegalStateException.class, engine::close);
        assertThrows(IllegalStateException.class, () -> new AsyncEngine(engine));
        SameResults.assertSame(expected, async.submit(request).result().join());
      }
      SameResults.assertSame(expected, engine.run(request));
      try (AsyncEngine again = new AsyncEngine(engine)) {
        SameResults.assertSame(expected, again.submit(request).result().join());
      }
    }
  }

  @Test
  void metricsTellWhatWasDone() throws Exception {
    with(
        ROOMY,
        engine -> {
          EngineMetrics before = engine.metrics();
          Request request = request("r", 40, 5);
          Result result = engine.submit(request).result().join();
          int stop = result.tokens()[2];
          int until = Arrays.stream(result.tokens()).boxed().toList().indexOf(stop) + 1;
          engine.submit(request.withStopTokens(Set.of(stop))).result().join();
          EngineMetrics after = engine.metrics();
          assertEquals(0, before.completed());
          assertEquals(2, after.completed());
          assertEquals(40 + 1, after.promptTokens());
          assertEquals(39, after.sharedTokens());
          assertEquals(5 + until, after.generatedTokens());
          assertEquals(ROOMY.pages(), after.pages());
          assertEquals(0, after.pagesUsed());
          assertEquals(2, after.timeToFirstToken().count());
          assertEquals(
              after.generatedTokens() - 3, after.interTokenTime().count()); // a stop token is none
          assertEquals(2, after.queueTime().count());
          assertFalse(after.timeToFirstToken().mean().isNegative());
          assertThrows(
              UnsupportedOperationException.class, () -> after.queueTime().counts().set(0, 1L));
        });
  }

  @Test
  void timesFallIntoTheirBounds() {
    Meter.Histogram histogram = new Meter.Histogram();
    assertEquals(Duration.ZERO, histogram.read().mean());
    histogram.add(Duration.ofMillis(1)); // the bound belongs to what is below
    histogram.add(Duration.ofMillis(30));
    histogram.add(Duration.ofHours(1));
    EngineMetrics.Times times = histogram.read();
    int last = EngineMetrics.Times.BOUNDS.size();
    assertEquals(3, times.count());
    assertEquals(1, times.counts().get(0));
    assertEquals(1, times.counts().get(EngineMetrics.Times.BOUNDS.indexOf(0.04)));
    assertEquals(1, times.counts().get(last));
    assertEquals(Duration.ofMillis(3600031).dividedBy(3), times.mean());
  }

  /** What has ended leaves nothing, on the device and in Java, whichever way it ended. */
  @Test
  void memoryStaysFlat() throws Exception {
    CpuDevice device = (CpuDevice) CpuDevice.open(2);
    with(
        device,
        TIGHT,
        engine -> {
          List<Request> requests = randomRequests(40);
          List<WeakReference<Generation>> ended = new ArrayList<>();
          long allocated = 0;
          for (int round = 0; round < 12; round++) {
            List<Generation> generations = new ArrayList<>();
            for (Request request : requests) {
              generations.add(engine.submit(request));
            }
            for (int i = 0; i < generations.size(); i += 5) {
              generations.get(i).cancel();
            }
            generations.forEach(generation -> generation.result().join());
            generations.forEach(generation -> ended.add(new WeakReference<>(generation)));
            assertEquals(0, engine.metrics().pagesUsed());
            if (round == 2) {
              allocated = device.allocated();
            }
          }
          assertEquals(allocated, device.allocated());
          for (int i = 0; i < 50 && ended.stream().anyMatch(one -> one.get() != null); i++) {
            System.gc();
          }
          assertEquals(0, ended.stream().filter(one -> one.get() != null).count());
          assertEquals(12L * requests.size(), total(engine.metrics()));
        });
  }

  private static long total(EngineMetrics metrics) {
    return metrics.completed() + metrics.cancelled() + metrics.expired() + metrics.failed();
  }
}
