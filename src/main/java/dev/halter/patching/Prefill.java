package dev.halter.patching;

import dev.halter.model.Batch;
import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import dev.halter.model.SiteHook;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Forward passes over many prompts, as many tokens in a step as fit; no logits, no steering. */
final class Prefill {
  private Prefill() {}

  /** Tokens of a sequence, of which those before {@code first} are in the cache already. */
  record Prompt(int sequence, int[] tokens, int first) {}

  /** Says what acts on each step. */
  interface Steps {
    /**
     * A step begins.
     *
     * @param batch whose i-th span is of prompt {@code firstPrompt + i}, whole or in part
     */
    SiteHook begin(Batch batch, int firstPrompt);
  }

  /** Sequences of a cache that are open while prompts run. */
  record Sequences(KvCache cache, List<Integer> ids) implements AutoCloseable {
    /**
     * Opens sequences for the first prompts that fit the cache together.
     *
     * @throws IllegalArgumentException if not even the first fits
     */
    static Sequences open(KvCache cache, List<Integer> lengths) {
      Sequences sequences = new Sequences(cache, new ArrayList<>());
      try {
        for (int length : lengths) {
          if (cache.sequencesFree() == 0 || KvCache.pagesFor(length) > cache.pagesFree()) {
            break;
          }
          int id = cache.open();
          sequences.ids.add(id);
          cache.reserve(id, length);
        }
        if (sequences.ids.isEmpty()) {
          throw new IllegalArgumentException(
              "a prompt of %,d tokens does not fit the KV cache, which has room for %,d: take"
                      .formatted(lengths.getFirst(), (long) cache.pagesFree() * KvCache.PAGE)
                  + " shorter prompts, or a larger --context");
        }
        return sequences;
      } catch (RuntimeException e) {
        sequences.close();
        throw e;
      }
    }

    int count() {
      return ids.size();
    }

    int id(int i) {
      return ids.get(i);
    }

    @Override
    public void close() {
      ids.forEach(cache::release);
    }
  }

  /** Runs prompts from a block on. */
  static void run(Llama model, List<Prompt> prompts, int firstLayer, Steps steps) {
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
        batch.add(p.sequence, token, tokens, new int[tokens.length], tokens.length);
        token = end;
        if (token == p.tokens.length && ++prompt < prompts.size()) {
          token = prompts.get(prompt).first;
        }
      }
      model.forward(batch, steps.begin(batch, firstPrompt), firstLayer);
    }
  }
}
