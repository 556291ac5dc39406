package dev.halter.tuning;

import dev.halter.model.Head;
import java.util.List;

/**
 * The vectors of a layer's chosen heads, a row each: how far factors are from 1, or offsets. So all
 * begin at 0, and decay draws to what changes nothing.
 *
 * @param heads of the layer, in order
 */
record HeadVectors(HeadVector kind, int layer, List<Head> heads, int dHead) implements Tuned {
  @Override
  public int rows() {
    return heads.size();
  }

  @Override
  public int columns() {
    return dHead;
  }

  @Override
  public String name() {
    return "blocks.%d.attn.hook_z/%s%s".formatted(layer, kind, heads);
  }
}
