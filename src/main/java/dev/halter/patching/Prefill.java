package dev.halter.patching;

import dev.halter.model.Batch;
import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import dev.halter.model.SiteHook;
import java.util.Arrays;
import java.util.List;

/** Forward passes over many prompts, as many tokens in a step as fit; no logits, no steering. */
final class Prefill {
  private Prefill() {}

  /** Tokens of a sequence, of which those before {@code first} are in the cache already. */
  record Prompt(int sequence, int[] tokens, int first) {}

  /** Acts on steps, told whose rows are in each. */
  interface StepHook extends SiteHook {
    /** A step begins: its i-th span is of prompt {@code firstPrompt + i}, whole or in part. */
    void begin(Batch batch, int firstPrompt);

    /** All of the step has been queued. */
    void end();
  }

  /** Opens sequences for the first prompts that fit the cache together, at least for one. */
  static int[] open(KvCache cache, List<Integer> lengths) {
    int pages = cache.pagesFree();
    int count = 0;
    while (count < lengths.size() && count < cache.sequencesFree()) {
      pages -= KvCache.pagesFor(lengths.get(count));
      if (pages < 0) {
        break;
      }
      count++;
    }
    int[] sequences = new int[Math.max(1, count)];
    for (int i = 0; i < sequences.length; i++) {
      sequences[i] = cache.open();
      cache.reserve(sequences[i], lengths.get(i));
    }
    return sequences;
  }

  /** Runs prompts from a block on. */
  static void run(Llama model, List<Prompt> prompts, int firstLayer, StepHook hook) {
    int most = model.limits().rows();
    int prompt = 0;
    int token = prompts.getFirst().first;
    while (prompt < prompts.size()) {
      Batch batch = new Batch();
      int firstPrompt = prompt;
      while (prompt < prompts.size() && batch.rows() < most) {
        Prompt p = prompts.get(prompt);
        int end = Math.min(p.tokens.length, token + most - batch.rows());
        int[] tokens = Arrays.copyOfRange(p.tokens, token, end);
        batch.add(p.sequence, token, tokens, new int[tokens.length], tokens.length, null);
        token = end;
        if (token == p.tokens.length && ++prompt < prompts.size()) {
          token = prompts.get(prompt).first;
        }
      }
      hook.begin(batch, firstPrompt);
      model.forward(batch, hook, firstLayer);
      hook.end();
    }
  }
}
