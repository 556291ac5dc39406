package dev.halter.steering;

import dev.halter.device.OutOfDeviceMemoryException;
import dev.halter.device.Scope;
import dev.halter.model.ArrayHash;
import dev.halter.model.Batch;
import dev.halter.model.Beginning;
import dev.halter.model.Edit;
import dev.halter.model.KvCache;
import dev.halter.model.Llama;
import dev.halter.model.LowerLayers.Parting;
import dev.halter.model.Site;
import dev.halter.model.SlotEdit;
import dev.halter.model.SteeringTable;
import dev.halter.model.SteeringTable.Placed;
import dev.halter.model.SteeringTable.ReportPlace;
import dev.halter.steering.ConceptRemovals.Together;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Comparator;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.IntFunction;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * Gives each token of a step its steering slot. A slot is a plan together with those of its
 * interventions that act on the token, and those that solve at it; requests with one plan share
 * slots, so the tables grow with distinct plans and not with requests.
 *
 * <p>What a step costs here follows its tokens, not the plans that are known. Slots outlive their
 * requests, since plans come again; when they hold much, those go that have not been used longest.
 */
public final class SteeringSlots implements AutoCloseable {
  /** What plans without a request may hold. */
  public static final long IDLE_BYTES = 64L << 20;

  /** What a slot takes on the host, about. */
  private static final long HOST_BYTES = 2048;

  private static final Comparator<Site> BY_PLACE =
      Comparator.comparingInt(Site::layer).thenComparing(Site::kind);

  private final Llama model;
  private final long mostIdle; // bytes
  private final ConceptRemovals removals;
  private final SteeringTable table;
  private final PageReports reports;
  private final EditDigests digests;
  private final List<Kind> bySlot = new ArrayList<>(); // null where there is none

  /** Plans are told apart by identity: comparing their vectors for every request would cost. */
  private final IdentityHashMap<SteeringPlan, Known> plans = new IdentityHashMap<>();

  private final Set<Known> idle = new LinkedHashSet<>(); // without a request, the longest first
  private long idleBytes; // that they hold

  /**
   * Slots over a model.
   *
   * @param mostIdle bytes that plans without a request may hold, such as {@link #IDLE_BYTES}
   */
  public SteeringSlots(Llama model, long mostIdle) {
    this.model = model;
    this.mostIdle = mostIdle;
    this.removals = new ConceptRemovals(model);
    ArrayHash arrays = new ArrayHash();
    this.digests = new EditDigests(arrays, removals::loading);
    this.table = new SteeringTable(model.device(), model.config().nHeads(), arrays, this::removal);
    try {
      this.reports = new PageReports(model);
    } catch (RuntimeException | Error e) {
      table.close();
      throw e;
    }
  }

  /** A plan that has slots, or an open request. */
  private final class Known {
    final SteeringPlan plan;
    final PageReports.Columns columns;
    final boolean treatsPromptAlike; // all its tokens, whatever prompt it is
    final boolean treatsGenerationAlike;
    final Map<Tokens, Kind> kinds = new HashMap<>();
    private long[] edits; // once asked for: what each intervention does
    int requests;
    long idleBytes; // while it is idle

    Known(SteeringPlan plan) {
      this.plan = plan;
      this.columns = new PageReports.Columns(plan);
      this.treatsPromptAlike =
          !plan.isSolvedAtPromptEnd()
              && plan.interventions().stream().allMatch(each -> each.trigger().treatsPromptAlike());
      this.treatsGenerationAlike =
          plan.interventions().stream().allMatch(each -> each.trigger().treatsGenerationAlike());
    }

    /** A number for what each intervention does, of equal ones for which it is. */
    long[] edits() {
      if (edits == null) {
        edits = new long[plan.interventions().size()];
        Map<Long, Integer> before = new HashMap<>();
        for (int i = 0; i < edits.length; i++) {
          long edit = digests.of(plan.interventions().get(i).edit());
          edits[i] = digests.of(edit, before.merge(edit, 1, Integer::sum));
        }
        columns.tell(edits);
      }
      return edits;
    }

    /** What its slots hold. */
    long bytes() {
      return kinds.values().stream()
          .filter(kind -> kind.slot != 0)
          .mapToLong(kind -> HOST_BYTES + table.bytes(kind.slot))
          .sum();
    }

    Kind kind(Tokens tokens) {
      Kind known = kinds.get(tokens);
      if (known == null) {
        known = new Kind(this, tokens.copy());
        kinds.put(known.tokens, known);
      }
      return known;
    }
  }

  /** A kind of tokens: those to which a plan does the same. */
  private final class Kind {
    final Known known;
    final Tokens tokens;
    final int[] changed; // interventions, in their order
    private int slot; // 0: none yet, or nothing is done
    private List<Solving> solving = List.of(); // once there is a slot
    private Long digest; // once asked for
    private int[] acting; // likewise: interventions that change anything, as they act

    Kind(Known known, Tokens tokens) {
      this.known = known;
      this.tokens = tokens;
      this.changed = tokens.changed.stream().toArray();
    }

    /**
     * A number for what is done to its tokens, whatever plan does it: 0 for nothing that changes
     * them. Sites of different layers and kinds do not meet, so that only at one site the order of
     * edits counts.
     */
    long digest() {
      if (digest == null) {
        int[] acting = acting();
        long[] does = new long[2 * acting.length];
        for (int at = 0; at < acting.length; at++) {
          int i = acting[at];
          does[2 * at] = known.edits()[i];
          does[2 * at + 1] = (tokens.changed.get(i) ? 1L : 0) + (tokens.solving.get(i) ? 2 : 0);
        }
        digest = does.length == 0 ? 0 : digests.of(does);
      }
      return digest;
    }

    private int[] acting() {
      if (acting == null) {
        acting =
            IntStream.of(tokens.busy())
                .filter(i -> !EditDigests.changesNothing(edit(i)))
                .boxed()
                .sorted(Comparator.comparing(i -> edit(i).site(), BY_PLACE))
                .mapToInt(Integer::intValue)
                .toArray();
      }
      return acting;
    }

    private Edit edit(int intervention) {
      return known.plan.interventions().get(intervention).edit();
    }

    /** Layer of the first site at which anything is done to its tokens; that of none if nothing. */
    int firstLayer() {
      return acting().length == 0 ? model.config().nLayers() : edit(acting()[0]).site().layer();
    }

    /** The slot of its tokens; where memory is short, those that no open request uses make room. */
    int slot() {
      if (slot == 0 && !tokens.areLeftAlone()) {
        try {
          take();
        } catch (OutOfDeviceMemoryException e) {
          if (!dropIdle(0)) {
            throw e;
          }
          take();
        }
      }
      return slot;
    }

    private void take() {
      int[] busy = tokens.busy();
      List<Edit> edits = new ArrayList<>();
      for (int i : busy) {
        Edit edit = edit(i);
        edits.add(
            edit instanceof RemoveConcepts concepts
                ? new ConceptRemoval.Use(
                    concepts,
                    Together.of(known.plan, i),
                    tokens.solving.get(i),
                    tokens.changed.get(i))
                : edit);
      }
      int number = table.add(edits);
      try {
        List<ReportPlace> places = table.places(number);
        Map<Integer, ReportPlace> ofChanged = new HashMap<>();
        List<Solving> ofCodes = new ArrayList<>();
        for (int at = 0; at < busy.length; at++) {
          int i = busy[at];
          if (tokens.changed.get(i)) {
            ofChanged.put(i, places.get(at));
          }
          if (tokens.solving.get(i)) {
            ConceptRemoval removal = removals.get(Together.of(known.plan, i));
            ofCodes.add(new Solving(i, removal, places.get(at).at()));
          }
        }
        reports.place(number, known.columns, ofChanged);
        solving = ofCodes;
      } catch (RuntimeException | Error e) {
        table.remove(number);
        throw e;
      }
      while (bySlot.size() <= number) {
        bySlot.add(null);
      }
      bySlot.set(number, this);
      slot = number;
    }

    /** Notes the codes of a token in a page, whose row of the step's report begins there. */
    void noteCodes(int page, int row) {
      for (int i = 0; i < solving.size(); i++) { // without an iterator for each token
        Solving each = solving.get(i);
        reports.solved(page, each.intervention, each.removal, row + each.at);
      }
    }

    /** Gives its slot back. */
    void leave() {
      if (slot != 0) {
        table.remove(slot);
        bySlot.set(slot, null);
        slot = 0;
      }
    }
  }

  /** An intervention that makes codes, by which removal, and where a row of the report has them. */
  private record Solving(int intervention, ConceptRemoval removal, int at) {}

  /**
   * Tokens to which a plan does the same.
   *
   * @param changed interventions that change them
   * @param solving interventions that make a sparse code of them
   */
  private record Tokens(BitSet changed, BitSet solving) {
    Tokens() {
      this(new BitSet(), new BitSet());
    }

    Tokens copy() {
      return new Tokens((BitSet) changed.clone(), (BitSet) solving.clone());
    }

    boolean areLeftAlone() {
      return changed.isEmpty() && solving.isEmpty();
    }

    /** The interventions that have anything to do, in their order. */
    int[] busy() {
      BitSet busy = (BitSet) changed.clone();
      busy.or(solving);
      return busy.stream().toArray();
    }
  }

  /** A request under a plan. */
  public final class Steered implements AutoCloseable {
    private final Known known;
    private final SteeringPlan plan;
    private final int sequence; // of the KV cache
    private final int[] prompt;
    private final Kind[] ofPrompt; // by position
    private final Tokens tokens = new Tokens(); // the kind of the one looked at last
    private Kind last; // its kind
    private boolean isPrepared; // whether the prompt's tokens have their slots
    private boolean isSettled; // whether all that follows is of it
    private final int[] changed; // tokens so far, by intervention, but for those counted below
    private Kind counted; // the kind of the tokens before the next
    private int times; // how many of them
    private final BitSet pages = new BitSet(); // of the sequence: those in which edits have acted
    private long[] edits; // to tokens of the prompt; null where pages are not shared
    private int had; // leading tokens that others have read

    private Steered(Known known, int[] prompt, int sequence) {
      this.known = known;
      this.plan = known.plan;
      this.prompt = prompt;
      this.sequence = sequence;
      this.changed = new int[plan.interventions().size()];
      this.last = known.kind(tokens);
      this.counted = last;
      this.ofPrompt = new Kind[changed.length == 0 ? 0 : prompt.length];
      if (known.treatsPromptAlike && ofPrompt.length > 0) {
        Arrays.fill(ofPrompt, kind(0, prompt[0]));
      } else {
        Arrays.setAll(ofPrompt, i -> kind(i, prompt[i]));
      }
    }

    /**
     * Finds the slots of the prompt's tokens before they are asked for: digests, tables and copies
     * take the host a while, which it has while the device runs a step.
     *
     * @param from the first that is still to be read
     * @throws OutOfDeviceMemoryException if they do not fit
     */
    public void prepare(int from) {
      if (!isPrepared) {
        for (int i = from; i < ofPrompt.length; i++) {
          ofPrompt[i].slot();
        }
        isPrepared = true;
      }
    }

    /**
     * Finds the slots of the sequence's next tokens, between two steps.
     *
     * @param position of the first
     * @param slots receives them
     */
    public void slots(int position, int[] tokens, int[] slots) {
      if (changed.length == 0) {
        Arrays.fill(slots, 0);
        return;
      }
      for (int i = 0; i < tokens.length; i++) {
        int at = position + i;
        Kind kind = at < prompt.length ? ofPrompt[at] : kind(at, tokens[i]);
        slots[i] = kind.slot();
        count(kind);
      }
      table.uploadMuch();
    }

    private void count(Kind kind) {
      if (kind != counted) {
        addUp();
        counted = kind;
      }
      times++;
    }

    private void addUp() {
      for (int i : counted.changed) {
        changed[i] += times;
      }
      times = 0;
    }

    /**
     * The prompt, with what is done to each of its tokens; from now on its pages may be shared.
     *
     * @param salt with beginnings of the same alone, or null
     */
    public Beginning beginning(String salt) {
      edits = new long[prompt.length];
      for (int i = 0; i < ofPrompt.length; i++) {
        edits[i] = ofPrompt[i].digest();
      }
      return beginning(edits, salt);
    }

    private Beginning beginning(long[] edits, String salt) {
      if (salt == null) {
        return new Beginning(prompt, edits);
      }
      long[] salted = edits.clone();
      salted[0] = digests.of(edits[0], salt); // so that no other begins like it
      return new Beginning(prompt, salted);
    }

    /**
     * Where the plan parts from others at the prompt: {@link Parting#NONE} where it does so from
     * the first block on, or not at all.
     *
     * @param salt as for {@link #beginning}
     */
    public Parting parting(String salt) {
      int layers = model.config().nLayers();
      int layer = layers;
      int from = prompt.length;
      for (int i = ofPrompt.length - 1; i >= 0; i--) {
        int first = ofPrompt[i].firstLayer();
        layer = Math.min(layer, first);
        from = first < layers ? i : from;
      }
      return layer <= 0 || from == prompt.length
          ? Parting.NONE
          : new Parting(beginning(new long[prompt.length], salt), layer, KvCache.shared(from));
    }

    /** Notes that others have read the first {@code count} tokens of its beginning. */
    public void has(int count) {
      had = count;
      for (int i = 0; i < Math.min(count, ofPrompt.length); i++) {
        count(ofPrompt[i]);
      }
    }

    private Kind kind(int position, int token) {
      if (isSettled) {
        return last;
      }
      look(position, token);
      if (!tokens.equals(last.tokens)) {
        last = known.kind(tokens);
      }
      isSettled = position >= prompt.length && known.treatsGenerationAlike;
      return last;
    }

    /** Finds out what is done to a token. */
    private void look(int position, int token) {
      List<SteeringPlan.Intervention> interventions = plan.interventions();
      for (int i = 0; i < interventions.size(); i++) {
        Trigger trigger = interventions.get(i).trigger();
        boolean changed =
            position < prompt.length
                ? trigger.selectsPrompt(position, prompt.length, token)
                : trigger.selectsGenerated(position - prompt.length, token);
        boolean solving = false;
        if (interventions.get(i).edit() instanceof RemoveConcepts edit) {
          // What is solved at the prompt's end changes nothing before that.
          boolean once = edit.coding().when() == RemoveConcepts.Solve.PROMPT_END;
          changed &= !once || position >= prompt.length - 1;
          solving = once ? position == prompt.length - 1 : changed;
        }
        tokens.changed.set(i, changed);
        tokens.solving.set(i, solving);
      }
    }

    /** Notes where a step just run has edited its tokens. */
    private void note(Batch.Span span) {
      int stride = table.reportStride();
      for (int i = 0; i < span.length(); i++) {
        if (span.slots()[i] != 0) {
          int at = (span.position() + i) / KvCache.PAGE;
          int page = model.cache().page(sequence, at);
          if (!pages.get(at)) {
            pages.set(at);
            reports.begin(page, known.columns, span.position() > at * KvCache.PAGE);
          }
          bySlot.get(span.slots()[i]).noteCodes(page, (span.firstRow() + i) * stride);
        }
      }
    }

    /** What its report is made of, but for what its pages have. */
    private PageReports.Held held() {
      SteeringReport.Builder report = new SteeringReport.Builder(plan, notes());
      addUp();
      for (int i = 0; i < changed.length; i++) {
        report.tokens(i, changed[i]);
      }
      int[] acted =
          IntStream.range(0, Math.max(pages.length(), had / KvCache.PAGE))
              .filter(this::hasChanges)
              .map(at -> model.cache().page(sequence, at))
              .toArray();
      return new PageReports.Held(acted, known.columns, report);
    }

    /**
     * Whether edits have acted in one of the sequence's pages. One of the prompt alone may by now
     * be that of a request which has read the same; where nothing is changed, that had no such
     * edit.
     */
    private boolean hasChanges(int at) {
      int from = at * KvCache.PAGE;
      int end = from + KvCache.PAGE;
      if (edits == null || end > prompt.length) {
        return pages.get(at);
      }
      return (pages.get(at) || end <= had)
          && Arrays.stream(edits, from, end).anyMatch(edit -> edit != 0);
    }

    private List<String> notes() {
      List<String> notes = new ArrayList<>();
      for (SteeringPlan.Intervention intervention : plan.interventions()) {
        for (int position : intervention.trigger().beyondPrompt(prompt.length)) {
          notes.add(
              "prompt position %d is beyond the prompt of %d tokens: its last token was taken"
                  .formatted(position, prompt.length));
        }
      }
      return notes;
    }

    @Override
    public void close() {
      if (--known.requests == 0) {
        known.idleBytes = known.bytes();
        if (known.idleBytes == 0) {
          plans.remove(plan);
        } else {
          idle.add(known);
          idleBytes += known.idleBytes;
        }
      }
    }
  }

  /**
   * Checks that every intervention of a plan can act in a request.
   *
   * @throws IllegalArgumentException naming one that selects no token of the prompt and none of the
   *     generation, or that {@link #check(SteeringPlan)} refuses
   */
  public void check(SteeringPlan plan, int[] prompt) {
    for (SteeringPlan.Intervention intervention : plan.interventions()) {
      Trigger trigger = intervention.trigger();
      if (!trigger.actsOnGeneration() && !trigger.actsOnPrompt(prompt)) {
        throw new IllegalArgumentException(
            "plan '%s' selects nothing: %s at %s selects none of the prompt's %d tokens"
                .formatted(
                    plan.name(), intervention.op(), intervention.edit().site(), prompt.length));
      }
    }
    check(plan);
  }

  /**
   * Checks that the model can be steered by a plan, whatever the prompt.
   *
   * @throws IllegalArgumentException naming an intervention that names what the model or the
   *     dictionary has not, or that was made for another model
   */
  public void check(SteeringPlan plan) {
    for (SteeringPlan.Intervention intervention : plan.interventions()) {
      try {
        intervention.edit().requireOf(model.config());
      } catch (IllegalArgumentException e) {
        throw new IllegalArgumentException(
            "plan '%s', %s: %s".formatted(plan.name(), intervention.op(), e.getMessage()), e);
      }
      if (intervention.edit() instanceof Edit.HeadAffine maps
          && !maps.fingerprint().equals(model.fingerprint())) {
        throw new IllegalArgumentException(
            "plan '%s': the file of %s was made for another model: fit one for this model"
                .formatted(plan.name(), intervention.op()));
      }
    }
    for (int i = 0; i < plan.interventions().size(); i++) {
      if (plan.interventions().get(i).edit() instanceof RemoveConcepts removal) {
        ready(plan, Together.of(plan, i)).requireNames(removal);
      }
    }
  }

  /**
   * Loads what an edit needs, so that a file that cannot be used costs its request alone. Where
   * memory is short, what no open request uses makes room.
   */
  private ConceptRemoval ready(SteeringPlan plan, Together together) {
    try {
      return removals.get(together);
    } catch (OutOfDeviceMemoryException first) {
      dropIdle(0);
      try {
        return removals.get(together);
      } catch (OutOfDeviceMemoryException e) {
        throw new IllegalArgumentException(
            "plan '%s': the dictionary %s does not fit beside the model: choose fewer layers, fewer"
                    .formatted(plan.name(), together.coding().dictionary())
                + " atoms or a smaller --context ("
                + e.getMessage()
                + ")",
            e);
      }
    }
  }

  /**
   * Begins a request under a plan that {@link #check} lets pass.
   *
   * @param sequence of the KV cache that it is
   */
  public Steered open(SteeringPlan plan, int[] prompt, int sequence) {
    Known known = plans.computeIfAbsent(plan, Known::new);
    known.requests++;
    if (idle.remove(known)) {
      idleBytes -= known.idleBytes;
    }
    return new Steered(known, prompt, sequence);
  }

  /**
   * Before slots of a step are asked for: drops slots of plans that no open request has, if they
   * hold much.
   */
  public void beginStep() {
    dropIdle(mostIdle);
  }

  /** Drops slots that no open request uses until these hold {@code most} bytes; whether any was. */
  private boolean dropIdle(long most) {
    boolean dropped = false;
    boolean removesConcepts = false;
    while (idleBytes > most) {
      Known known = idle.iterator().next();
      idle.remove(known);
      idleBytes -= known.idleBytes;
      plans.remove(known.plan);
      known.kinds.values().forEach(Kind::leave);
      dropped = true;
      removesConcepts |= !codings(known.plan).isEmpty();
    }
    if (removesConcepts) {
      removals.keep(
          plans.keySet().stream()
              .flatMap(plan -> codings(plan).stream())
              .collect(Collectors.toSet()));
    }
    return dropped;
  }

  private static Set<RemoveConcepts.Coding> codings(SteeringPlan plan) {
    return plan.interventions().stream()
        .map(SteeringPlan.Intervention::edit)
        .filter(RemoveConcepts.class::isInstance)
        .map(edit -> ((RemoveConcepts) edit).coding())
        .collect(Collectors.toSet());
  }

  /** The tables of all slots; null if there is none. */
  public SteeringTable table() {
    return table.size() == 0 ? null : table;
  }

  /** Removes concepts from the tokens of slots that agree in how. */
  private SlotEdit removal(Scope scope, int slots, List<Placed> uses) {
    ConceptRemoval.Use first = (ConceptRemoval.Use) uses.getFirst().edit();
    return removals.get(first.together()).of(scope, slots, uses);
  }

  /**
   * After a step: adds what it changed to the reports.
   *
   * @param steered the request of each span of the batch
   */
  public void report(Batch batch, IntFunction<Steered> steered) {
    if (!batch.isSteered()) {
      return;
    }
    for (int s = 0; s < batch.spans().size(); s++) {
      steered.apply(s).note(batch.spans().get(s));
    }
    reports.add(batch, table);
  }

  /**
   * What the plans of requests did up to now, each report as if it were asked for alone; before
   * their sequences are released. The device is waited for once.
   */
  public List<SteeringReport> reports(List<Steered> requests) {
    List<PageReports.Held> held = requests.stream().map(Steered::held).toList();
    reports.read(held);
    return held.stream().map(each -> each.report().build()).toList();
  }

  @Override
  public void close() {
    model.forget(table);
    reports.close();
    table.close();
    removals.close();
  }
}
