package dev.halter.serving;

import dev.halter.generation.EngineMetrics;
import dev.halter.generation.Request;
import dev.halter.model.KvCache;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.LongAdder;

/**
 * What a server counts, by vLLM's names for what is the same and names that begin with {@code
 * halter_} for the rest.
 */
final class Metrics {
  private static final int MOST_TOKENS = 200_000;

  private final String model;
  private final AtomicInteger load = new AtomicInteger();
  private final Map<String, LongAdder> finished = new ConcurrentSkipListMap<>();
  private final LongAdder steered = new LongAdder();
  private final LongAdder editedTokens = new LongAdder();
  private final LongAdder patchedPairs = new LongAdder();
  private final Histogram promptTokens = Histogram.ofCounts(MOST_TOKENS);
  private final Histogram generatedTokens = Histogram.ofCounts(MOST_TOKENS);
  private final Histogram maxTokens = Histogram.ofCounts(MOST_TOKENS);
  private final Histogram latency = new Histogram(EngineMetrics.Times.BOUNDS);

  Metrics(String model) {
    this.model = model;
    for (String reason : new String[] {"stop", "length", "abort"}) {
      finished.put(reason, new LongAdder());
    }
  }

  /** A request that is being answered. */
  final class Watch implements AutoCloseable {
    private final long since = System.nanoTime();

    private Watch() {
      load.incrementAndGet();
    }

    /** An answer stands. */
    void ended(Choice choice, Choice.Outcome outcome) {
      Request request = choice.generation().request();
      finished.get(outcome.answer().finishReason()).increment();
      promptTokens.add(request.prompt().length);
      generatedTokens.add(outcome.answer().tokens().size());
      maxTokens.add(request.maxTokens());
      latency.add((System.nanoTime() - since) * 1e-9);
      if (!request.plan().interventions().isEmpty()) {
        steered.increment();
        outcome.report().interventions().forEach(entry -> editedTokens.add(entry.tokens()));
      }
    }

    @Override
    public void close() {
      load.decrementAndGet();
    }
  }

  /** Watches a request until it is closed. */
  Watch watch() {
    return new Watch();
  }

  /** Pairs have been patched. */
  void patched(int pairs) {
    patchedPairs.add(pairs);
  }

  /** Requests that are being answered. */
  int load() {
    return load.get();
  }

  /** All of it, with what the engine counts. */
  String page(EngineMetrics engine, int plans) {
    Exposition page = new Exposition(model);
    page.gauge("vllm:num_requests_running", "Requests in the batch.", engine.running());
    page.gauge("vllm:num_requests_waiting", "Requests that wait for room in it.", engine.waiting());
    page.gauge(
        "vllm:kv_cache_usage_perc",
        "Share of the KV cache's pages that requests hold, 0 to 1.",
        (double) engine.pagesUsed() / engine.pages());
    page.counter(
        "vllm:prefix_cache_queries_total",
        "Tokens of prompts looked for in the cache.",
        engine.promptTokens() + engine.sharedTokens());
    page.counter(
        "vllm:prefix_cache_hits_total", "Tokens of prompts found there.", engine.sharedTokens());
    page.counter(
        "vllm:prompt_tokens_total",
        "Tokens of prompts.",
        engine.promptTokens() + engine.sharedTokens());
    page.counter("vllm:generation_tokens_total", "Tokens generated.", engine.generatedTokens());
    Map<String, Long> reasons = new TreeMap<>();
    finished.forEach((reason, count) -> reasons.put(reason, count.sum()));
    page.counters(
        "vllm:request_success_total", "Answers by what ended them.", "finished_reason", reasons);
    page.counters(
        "vllm:admission_rejections_total",
        "Requests not taken.",
        "reason",
        Map.of("queue_full", engine.rejected()));
    times(
        page, "vllm:time_to_first_token_seconds", "To the first token.", engine.timeToFirstToken());
    times(page, "vllm:inter_token_latency_seconds", "Between tokens.", engine.interTokenTime());
    times(page, "vllm:request_queue_time_seconds", "In the queue.", engine.queueTime());
    latency.write(page, "vllm:e2e_request_latency_seconds", "To the end of an answer.");
    promptTokens.write(page, "vllm:request_prompt_tokens", "Tokens of a prompt.");
    generatedTokens.write(page, "vllm:request_generation_tokens", "Tokens of an answer.");
    maxTokens.write(page, "vllm:request_params_max_tokens", "Most tokens asked for.");
    page.gauge("halter_plans_loaded", "Plans that can be named.", plans);
    page.counter("halter_requests_steered_total", "Answers under a plan.", steered.sum());
    page.counter("halter_tokens_edited_total", "Edits of tokens.", editedTokens.sum());
    page.counter("halter_pairs_patched_total", "Pairs of path patching.", patchedPairs.sum());
    page.counter("halter_requests_failed_total", "Requests that failed.", engine.failed());
    page.counter(
        "halter_prefix_cache_shared_layers_total",
        "Blocks not run for tokens of prompts that were read, since plans part above.",
        engine.sharedLayers());
    page.gauge("halter_kv_cache_pages", "Pages of the KV cache.", engine.pages());
    page.gauge("halter_kv_cache_page_tokens", "Tokens of a page.", KvCache.PAGE);
    return page.toString();
  }

  private static void times(Exposition page, String name, String help, EngineMetrics.Times times) {
    page.histogram(
        name, help, EngineMetrics.Times.BOUNDS, times.counts(), times.total().toNanos() * 1e-9);
  }
}
