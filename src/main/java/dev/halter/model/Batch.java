package dev.halter.model;

import dev.halter.device.Buffer;
import java.util.ArrayList;
import java.util.List;

/**
 * The tokens of one step, end to end: prefill chunks and decode rows of any number of sequences.
 */
public final class Batch {
  /**
   * Consecutive tokens of one sequence.
   *
   * @param sequence of the {@link KvCache}, with room reserved up to the last token
   * @param position of the first token in its sequence
   * @param firstRow row of the first token in the batch
   * @param slots steering slot of each token, 0 for none
   * @param firstOutput tokens from this index on get logits; {@code tokens.length} for none
   * @param firstOutputRow row of the first of them among the logits
   */
  public record Span(
      int sequence,
      int position,
      int firstRow,
      int[] tokens,
      int[] slots,
      int firstOutput,
      int firstOutputRow) {

    public int length() {
      return tokens.length;
    }
  }

  /** Rows whose residual stream is copied out where it enters a block. */
  record Kept(int layer, int firstRow, int rows, Buffer to) {}

  private final int firstLayer;
  private final List<Span> spans = new ArrayList<>();
  private final List<Kept> kept = new ArrayList<>();
  private int rows;
  private int outputs;

  /** Tokens that go through all blocks. */
  public Batch() {
    this(0);
  }

  /**
   * Tokens that go through the blocks from one on.
   *
   * @param firstLayer from 1 on, {@link LowerLayers#take} gives what the blocks before it made
   */
  public Batch(int firstLayer) {
    this.firstLayer = firstLayer;
  }

  /** First block that the tokens go through. */
  public int firstLayer() {
    return firstLayer;
  }

  /**
   * Has the residual stream of a span copied where it enters a block, before anything is done to it
   * there.
   *
   * @param to [span.length(), d_model] f32
   */
  void keep(Span span, int layer, Buffer to) {
    kept.add(new Kept(layer, span.firstRow, span.length(), to));
  }

  /** What is copied where the residual stream enters a block. */
  List<Kept> kept(int layer) {
    return kept.isEmpty() ? List.of() : kept.stream().filter(each -> each.layer == layer).toList();
  }

  /** Appends tokens of a sequence; parameters as in {@link Span}. */
  public Span add(int sequence, int position, int[] tokens, int[] slots, int firstOutput) {
    Span span = new Span(sequence, position, rows, tokens, slots, firstOutput, outputs);
    spans.add(span);
    rows += tokens.length;
    outputs += tokens.length - firstOutput;
    return span;
  }

  public List<Span> spans() {
    return spans;
  }

  /** Tokens in all. */
  public int rows() {
    return rows;
  }

  /** Rows of logits in all. */
  public int outputs() {
    return outputs;
  }

  /** Whether every span is one token with logits, and goes through all blocks: a decode step. */
  boolean isDecode() {
    return rows == spans.size() && outputs == rows && firstLayer == 0 && kept.isEmpty();
  }

  /** Whether any token has a steering slot. */
  public boolean isSteered() {
    for (Span span : spans) {
      for (int slot : span.slots()) {
        if (slot != 0) {
          return true;
        }
      }
    }
    return false;
  }
}
