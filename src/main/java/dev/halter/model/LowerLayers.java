package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.OutOfDeviceMemoryException;
import dev.halter.device.Scope;
import dev.halter.weights.ModelConfig;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * What the lower layers made of prompts. A plan that edits a prompt from block l on leaves all
 * below it as it is: the keys and values of the blocks before l, and the residual stream that
 * enters l, are the same for all plans that {@link Parting part} there. Whoever reads the prompt
 * first leaves them here; those who come after take them and begin at block l.
 *
 * <p>Of P tokens, L blocks and K plans, K·P·L times a token goes through a block when each reads
 * the whole prompt, and P·L + (K − 1)·P·(L − l) when they share: up to L / (L − l) times fewer,
 * which is 4 for edits in the last quarter.
 *
 * <p>What is taken is copied and not shared in place. A page of the cache holds all layers of its
 * tokens and a sequence has one table of pages; tables by layer would cost each kernel of attention
 * a look-up more, for all requests and ever. A copy moves 2·l·d_kv elements a token, some hundred
 * kilobytes in a model of 8 billion parameters, where computing them reads and multiplies for
 * gigaflops; so time is saved and memory is not. It is exact: bits are copied.
 *
 * <p>Each page's worth of tokens lies in a page lent by the {@link KvCache}, which takes it back
 * when requests need it and nothing else is left, and has its residual stream beside it, [{@value
 * KvCache#PAGE}, d_model] f32, from a pool of {@link #most} that is allocated as it is used. What
 * was unused for longest makes room.
 */
public final class LowerLayers {
  /**
   * Where a plan parts from what others do with its prompt.
   *
   * @param tokens the whole prompt, without what is done to it
   * @param layer nothing is done to it before this block; 0 where nothing can be shared below
   * @param from first token to which something is done: those before are shared in all layers
   */
  public record Parting(Beginning tokens, int layer, int from) {
    /** Of a request that neither takes nor leaves anything. */
    public static final Parting NONE = new Parting(new Beginning(), 0, 0);

    /** Tokens times blocks that a request which parts so would have from one that reads now. */
    public long gain(Parting other) {
      if (other.layer == 0 || other.layer > layer) {
        return 0;
      }
      int since = Math.max(from, other.from);
      return (long) other.layer * Math.max(0, tokens.common(other.tokens) - since);
    }
  }

  /**
   * How far the lower layers are known.
   *
   * @param layer blocks before this one need not be run; 0 if nothing is known
   * @param end for the tokens up to this one
   */
  public record Reach(int layer, int end) {
    /** Nothing is known. */
    public static final Reach NONE = new Reach(0, 0);
  }

  /** Tokens of one page, of whatever prompts begin with all up to there. */
  private static final class Held {
    final Place place;
    final int page; // lent
    final Buffer residual; // [PAGE, d_model] f32
    int from; // first token whose residual stream is there
    Beginning tokens; // of the prompt, up to the last that is there

    Held(Place place, int page, Buffer residual) {
      this.place = place;
      this.page = page;
      this.residual = residual;
    }
  }

  /** What a step leaves of a span: rows of {@link #staged} are those of the batch. */
  private record Left(Batch.Span span, Parting parting) {}

  /** Pages of one number in their prompts, below one block. */
  private record Place(int layer, int index) {}

  private final Scope scope;
  private final KvCache cache;
  private final int layers;
  private final int rows;
  private final long rowBytes;
  private final Buffer residual; // [rows, d_model] f32: of the step
  private final Map<Place, TreeMap<Beginning, Held>> held = new HashMap<>();
  private final Set<Held> byUse = new LinkedHashSet<>(); // longest unused first
  private final Deque<Buffer> unused = new ArrayDeque<>();
  private final int most; // pages
  private int more; // of them that may be allocated yet
  private Buffer staged; // [rows, d_model] f32: what a step leaves; null until one does
  private final List<Left> left = new ArrayList<>();

  /**
   * Without anything.
   *
   * @param residual of a step's rows, [rows, d_model] f32
   */
  LowerLayers(
      Scope scope, KvCache cache, ModelConfig config, Llama.Limits limits, Buffer residual) {
    this.scope = scope;
    this.cache = cache;
    this.layers = config.nLayers();
    this.rows = limits.rows();
    this.rowBytes = 4L * config.dModel();
    this.residual = residual;
    this.most = most(limits.pages());
    this.more = most;
    cache.sparesLast(this::spare);
  }

  /** Most pages that are held, for a cache of so many. */
  static int most(int pages) {
    return Math.ceilDiv(pages, 4);
  }

  /** Bytes that this may take besides pages of the cache, in steps of up to so many rows. */
  static long bytes(ModelConfig config, int rows, int pages) {
    return 4L * config.dModel() * (rows + (long) KvCache.PAGE * most(pages));
  }

  /** How far what a request may take is known: where it saves most, if that is worth a step. */
  public Reach reach(Parting parting, int from) {
    Reach best = Reach.NONE;
    long most = worth() - 1;
    for (int layer = parting.layer; layer > 0; layer--) {
      int end = end(parting.tokens, layer, from);
      long saved = (long) layer * (end - from);
      if (saved > most) {
        most = saved;
        best = new Reach(layer, end);
      }
    }
    return best;
  }

  /** Tokens times blocks below which a step of their own costs more than they are worth. */
  private long worth() {
    return (long) layers * KvCache.WORTH_SHARING;
  }

  /** The least {@link Parting#gain} for which a request waits until another has read its prompt. */
  public long worthWaiting(Parting parting, int from) {
    Reach reach = reach(parting, from);
    long known = reach.layer == 0 ? 0 : (long) reach.layer * (reach.end - from);
    return known + worth();
  }

  private int end(Beginning tokens, int layer, int from) {
    int end = from;
    while (end < tokens.length()) {
      int index = end / KvCache.PAGE;
      int begin = index * KvCache.PAGE;
      Beginning wanted = throughPage(tokens, index);
      Held nearest = nearest(new Place(layer, index), wanted);
      int common = nearest == null || nearest.from > end ? 0 : nearest.tokens.common(wanted);
      if (common <= end) {
        return end;
      }
      end = common;
      if (end < begin + KvCache.PAGE) {
        return end;
      }
    }
    return end;
  }

  /** Of a prompt, what goes up to the end of a page. */
  private static Beginning throughPage(Beginning tokens, int index) {
    return tokens.first(Math.min(tokens.length(), (index + 1) * KvCache.PAGE));
  }

  /**
   * The held page that has the longest beginning in common with {@code tokens}; or null. Of pages
   * that have equally much it depends on the tokens behind which one that is, and how much of it it
   * holds: who takes what {@link #end} found must ask for the very same.
   */
  private Held nearest(Place place, Beginning tokens) {
    TreeMap<Beginning, Held> pages = held.get(place);
    if (pages == null) {
      return null;
    }
    Map.Entry<Beginning, Held> below = pages.floorEntry(tokens);
    Map.Entry<Beginning, Held> above = pages.ceilingEntry(tokens);
    if (below == null || above == null) {
      return (below == null ? above : below).getValue();
    }
    return below.getKey().common(tokens) > above.getKey().common(tokens)
        ? below.getValue()
        : above.getValue();
  }

  /**
   * Gives a span what {@link #reach} says is known of it: its sequence the keys and values, and the
   * step that comes next its residual stream.
   *
   * @param batch begins at the block of the reach
   * @param span of it, up to the end of the reach
   */
  public void take(Batch batch, Batch.Span span, Parting parting) {
    List<Held> used = new ArrayList<>();
    int end = span.position() + span.length();
    for (int at = span.position(); at < end; ) {
      int index = at / KvCache.PAGE;
      int to = Math.min(end, (index + 1) * KvCache.PAGE);
      Held page = nearest(new Place(batch.firstLayer(), index), throughPage(parting.tokens, index));
      cache.copyPage(page.page, cache.page(span.sequence(), index), batch.firstLayer());
      rows(residual, span.firstRow() + at - span.position(), to - at)
          .copyFrom(inPage(page, at, to));
      used.add(page);
      at = to;
    }
    use(used);
  }

  /**
   * Has the step that comes next leave what it makes of a span for others, if it is worth it;
   * {@link #finish} after the step makes it known.
   */
  public void leave(Batch batch, Batch.Span span, Parting parting) {
    int since = Math.max(span.position(), parting.from);
    long worth = (long) parting.layer * (parting.tokens.length() - parting.from);
    if (parting.layer <= batch.firstLayer()
        || since >= span.position() + span.length()
        || worth < worth()
        || !hasStage()) {
      return;
    }
    batch.keep(span, parting.layer, rows(staged, span.firstRow(), span.length()));
    left.add(new Left(span, parting));
  }

  private boolean hasStage() {
    if (staged == null && more > 0) {
      try {
        staged = scope.allocate(rows * rowBytes);
      } catch (OutOfDeviceMemoryException e) {
        more = 0;
      }
    }
    return staged != null;
  }

  /** Makes known what the step that ran left. */
  public void finish() {
    left.forEach(this::hold);
    left.clear();
  }

  private void hold(Left step) {
    Batch.Span span = step.span;
    Parting parting = step.parting;
    List<Held> used = new ArrayList<>();
    int end = span.position() + span.length();
    int last = Math.min(end, most * KvCache.PAGE); // pages whose first ones would have gone
    for (int at = Math.max(span.position(), parting.from); at < last; ) {
      int index = at / KvCache.PAGE;
      int to = Math.min(end, (index + 1) * KvCache.PAGE);
      Held page = page(new Place(parting.layer, index), parting.tokens.first(to), at);
      if (page == null) {
        break;
      }
      if (page.tokens == null || page.tokens.length() < to || page.from > at) {
        cache.copyPage(cache.page(span.sequence(), index), page.page, parting.layer);
        inPage(page, at, to)
            .copyFrom(rows(staged, span.firstRow() + at - span.position(), to - at));
        page.from = page.tokens == null ? at : Math.min(page.from, at);
        setTokens(page, parting.tokens.first(to));
      }
      used.add(page);
      at = to;
    }
    use(used);
  }

  /**
   * The page that has these tokens already, that they go on behind, or a new one; null if there is
   * no room.
   *
   * @param from first of the tokens that are to be held
   */
  private Held page(Place place, Beginning tokens, int from) {
    Held nearest = nearest(place, tokens);
    if (nearest != null) {
      int common = nearest.tokens.common(tokens);
      boolean has = common == tokens.length() && nearest.from <= from;
      boolean goesOn = common == nearest.tokens.length() && common >= from;
      if (has || goesOn) {
        return nearest;
      }
    }
    Buffer room = room();
    int page = room == null ? -1 : cache.lend();
    if (page < 0) {
      if (room != null) {
        unused.push(room);
      }
      return null;
    }
    return new Held(place, page, room);
  }

  /** Room for the residual stream of a page's tokens; null if there is none. */
  private Buffer room() {
    if (unused.isEmpty() && more > 0) {
      try {
        Buffer another = scope.allocate(KvCache.PAGE * rowBytes);
        more--;
        return another;
      } catch (OutOfDeviceMemoryException e) {
        more = 0;
      }
    }
    if (unused.isEmpty()) {
      spare();
    }
    return unused.poll();
  }

  private void setTokens(Held page, Beginning tokens) {
    TreeMap<Beginning, Held> pages = held.computeIfAbsent(page.place, at -> new TreeMap<>());
    if (page.tokens != null) {
      pages.remove(page.tokens);
    }
    page.tokens = tokens;
    pages.put(tokens, page);
    byUse.add(page);
  }

  /** Lets go what was unused for longest; false if nothing is held. */
  private boolean spare() {
    if (byUse.isEmpty()) {
      return false;
    }
    Held oldest = byUse.iterator().next();
    byUse.remove(oldest);
    TreeMap<Beginning, Held> pages = held.get(oldest.place);
    pages.remove(oldest.tokens);
    if (pages.isEmpty()) {
      held.remove(oldest.place);
    }
    unused.push(oldest.residual);
    cache.giveBack(oldest.page);
    return true;
  }

  private Buffer rows(Buffer of, int first, int count) {
    return of.slice(first * rowBytes, count * rowBytes);
  }

  private Buffer inPage(Held page, int from, int to) {
    return rows(page.residual, from % KvCache.PAGE, to - from);
  }

  /** Notes what is used; the first of a prompt last, without which the others are not found. */
  private void use(List<Held> pages) {
    for (Held page : pages.reversed()) {
      if (byUse.remove(page)) { // it may have made room for the next
        byUse.add(page);
      }
    }
  }
}
