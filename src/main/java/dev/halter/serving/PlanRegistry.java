package dev.halter.serving;

import dev.halter.files.BadFileException;
import dev.halter.files.Json;
import dev.halter.files.JsonObject;
import dev.halter.files.NamedFiles;
import dev.halter.files.Reason;
import dev.halter.serving.dialects.Dialect;
import dev.halter.serving.dialects.EasySteer;
import dev.halter.serving.dialects.RhizoNymph;
import dev.halter.serving.dialects.SteeringTiers;
import dev.halter.serving.dialects.VllmLens;
import dev.halter.steering.SteeringPlan;
import dev.halter.weights.ModelConfig;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;

/**
 * The plans of a server: those that requests name, and those that they bring, in whatever dialect.
 * Each acts after what acts on every request: the server's own, and what was set since it started.
 * Requests that begin while one is replaced are served by the old or by the new one; those that run
 * keep theirs.
 *
 * <p>No text of a request opens a file but those that lie in the folder of plans, each by its name.
 */
final class PlanRegistry {
  /** What a plan may be called that is loaded while the server runs. */
  private static final String NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}";

  private static final String JSON = ".json";

  /**
   * Characters of JSON of the plans that requests brought last, which are kept as they were read.
   */
  private static final long RECENT = 32 << 20;

  private final ModelConfig config;
  private final Path folder;
  private final Map<String, Path> named = new TreeMap<>(); // files that plans in requests may name
  private final NamedFiles files;
  private final EasySteer easySteer;
  private final RhizoNymph rhizoNymph;
  private final List<Dialect> dialects;

  // What follows is under the lock.
  private final Map<String, Entry> entries = new TreeMap<>();
  private final LinkedHashMap<String, SteeringPlan> recent = new LinkedHashMap<>(16, 0.75f, true);
  private long recentSize;
  private Dialect.Before before;
  private int changes; // of what plans that requests bring mean
  private SteeringPlan first; // before, as a plan
  private Standard standard = Standard.NONE;

  /**
   * A plan that can be named.
   *
   * @param json as it was loaded
   * @param own what it says itself
   * @param plan the server's own and this
   */
  record Entry(String name, JsonObject json, SteeringPlan own, SteeringPlan plan) {}

  /**
   * The plan of requests that bring none, by EasySteer's word for it.
   *
   * @param json as it was set; null for none
   */
  record Standard(Map<String, Object> json, SteeringPlan plan) {
    static final Standard NONE = new Standard(null, SteeringPlan.NONE);
  }

  /** A plan that was loaded, and the one in whose place it is, or null. */
  record Replaced(Entry entry, Entry before) {}

  /**
   * The plans of a folder, or none where it is null.
   *
   * @param server the server's own
   * @throws BadFileException if one cannot be read
   */
  PlanRegistry(ModelConfig config, Path folder, SteeringPlan server) {
    this.config = config;
    this.folder = folder;
    this.before = new Dialect.Before(server, SteeringTiers.NONE);
    this.first = server;
    for (Path file : folder == null ? List.<Path>of() : list(folder)) {
      String name = file.getFileName().toString();
      if (name.startsWith(".")) {
        continue;
      }
      if (name.endsWith(JSON) && Files.isRegularFile(file)) {
        String plan = name.substring(0, name.length() - JSON.length());
        JsonObject json = JsonObject.read(file);
        SteeringPlan read = SteeringPlan.of(json, folder.toAbsolutePath(), config).named(plan);
        entries.put(plan, new Entry(plan, json, read, server.then(read)));
      } else {
        named.put(name, file.toAbsolutePath());
      }
    }
    files = NamedFiles.only(named);
    easySteer = new EasySteer(files, config);
    rhizoNymph = new RhizoNymph(config);
    dialects = List.of(easySteer, rhizoNymph, new VllmLens(config));
  }

  private static List<Path> list(Path folder) {
    try (Stream<Path> all = Files.list(folder)) {
      return all.sorted().toList();
    } catch (IOException e) {
      throw new BadFileException(folder, "cannot be read: " + Reason.of(e), e);
    } catch (UncheckedIOException e) {
      throw new BadFileException(folder, "cannot be read: " + Reason.of(e.getCause()), e);
    }
  }

  EasySteer easySteer() {
    return easySteer;
  }

  RhizoNymph rhizoNymph() {
    return rhizoNymph;
  }

  /** In whose fields a body may say how to steer. */
  List<Dialect> dialects() {
    return dialects;
  }

  /** What acts on every request, before its own plan. */
  synchronized SteeringPlan first() {
    return first;
  }

  /** The files beside the plans, which plans in requests may name, by their names. */
  Map<String, Path> files() {
    return Collections.unmodifiableMap(named);
  }

  /** What of it was set since the server started. */
  synchronized SteeringTiers tiers() {
    return before.tiers();
  }

  /** Sets it, for requests from now on. */
  synchronized void set(UnaryOperator<SteeringTiers> change) {
    before = new Dialect.Before(before.server(), change.apply(before.tiers()));
    first = before.plan();
    entries.replaceAll(
        (name, entry) -> new Entry(name, entry.json, entry.own, first.then(entry.own)));
    forget();
  }

  /** Plans that requests bring mean something else now, since names in them do. */
  synchronized void forget() {
    changes++;
    recent.clear();
    recentSize = 0;
  }

  /** The plan of requests that bring none, after what acts on every one. */
  synchronized SteeringPlan unasked() {
    return first.then(standard.plan);
  }

  synchronized Standard standard() {
    return standard;
  }

  /** Sets it, for requests from now on. */
  synchronized void setStandard(Standard fresh) {
    standard = fresh;
  }

  /** All plans that can be named, by their names. */
  synchronized List<Entry> entries() {
    return List.copyOf(entries.values());
  }

  /** The plan of a name, which {@code field} holds. */
  synchronized Entry get(String field, String name) {
    Entry entry = entries.get(name);
    if (entry == null) {
      throw ApiError.badRequest(field, "there is no plan \"" + Text.line(name) + "\": " + known());
    }
    return entry;
  }

  private String known() {
    return entries.isEmpty()
        ? "none is loaded"
        : "there are " + String.join(", ", entries.keySet());
  }

  /** Loads a plan by a name, in the place of the one that has it, if any has. */
  Replaced put(String name, byte[] body) {
    if (!name.matches(NAME)) {
      throw ApiError.badRequest(
          "name", "a plan's name is of up to 64 letters, digits, '.', '_' and '-'");
    }
    JsonObject json = Fields.read(null, () -> JsonObject.parse(Fields.BODY, body));
    SteeringPlan plan = read(null, () -> SteeringPlan.of(json, files, config)).named(name);
    synchronized (this) {
      Entry entry = new Entry(name, json, plan, first.then(plan));
      return new Replaced(entry, entries.put(name, entry));
    }
  }

  /** Unloads a plan; requests that run with it go on. */
  synchronized void remove(String name) {
    if (entries.remove(name) == null) {
      throw ApiError.notFound("name", "there is no plan \"" + Text.line(name) + "\": " + known());
    }
  }

  /** The plan that a request brings, after what acts on every one. */
  SteeringPlan brought(String field, JsonObject json, Object parsed) {
    return brought(
        field,
        Json.object("plan", parsed),
        before -> before.plan().then(SteeringPlan.of(json, files, config)));
  }

  /** The plan that a body brings in fields of a dialect, and all that acts before it. */
  SteeringPlan brought(Dialect dialect, List<String> said, JsonObject body) {
    Map<String, Object> fields = new LinkedHashMap<>();
    said.forEach(field -> fields.put(field, body.value(field)));
    return brought(said.getFirst(), fields, before -> dialect.plan(body, before));
  }

  /** Requests that bring the same share it, and with it its tables on the device. */
  private SteeringPlan brought(
      String field, Object said, Function<Dialect.Before, SteeringPlan> reader) {
    String key = Json.text(said);
    Dialect.Before now;
    int since;
    synchronized (this) {
      SteeringPlan plan = recent.get(key);
      if (plan != null) {
        return plan;
      }
      now = before;
      since = changes;
    }
    SteeringPlan plan = read(field, () -> reader.apply(now));
    synchronized (this) {
      if (since == changes && recent.put(key, plan) == null) {
        recentSize += key.length();
      }
      while (recentSize > RECENT) {
        String eldest = recent.keySet().iterator().next();
        recent.remove(eldest);
        recentSize -= eldest.length();
      }
    }
    return plan;
  }

  /** What is read of a body, or of a file that it names; a complaint is one about the field. */
  <T> T read(String field, Supplier<T> reader) {
    try {
      return Fields.read(field, reader);
    } catch (ApiError e) {
      throw ApiError.badRequest(field, withoutFolder(e.getMessage()));
    }
  }

  /** A message without the place of the folder, which is nobody's business. */
  String withoutFolder(String message) {
    return folder == null ? message : message.replace(folder.toAbsolutePath() + "/", "");
  }
}
