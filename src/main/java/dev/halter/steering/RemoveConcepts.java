package dev.halter.steering;

import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.files.NamedFiles;
import dev.halter.model.Edit;
import dev.halter.model.Site;
import dev.halter.sparse.ConceptScores;
import dev.halter.sparse.Dictionary;
import dev.halter.sparse.DictionaryFile;
import dev.halter.sparse.Solver;
import dev.halter.weights.ModelConfig;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/**
 * Takes concepts out of the residual stream at one site: z ← z − strength · Σ c_i v_i over the
 * concepts i to be removed, with c the sparse code of z over a dictionary of concepts v. What the
 * code does not explain stays.
 *
 * <p>Source: Luo et al., PaCE (arXiv 2406.04331), Algorithms 1 to 3. They edit the input of every
 * chosen block; the dictionary holds outputs of blocks, so the default here is {@code
 * hook_resid_post} (our inference).
 *
 * @param site {@code hook_resid_pre} or {@code hook_resid_post}
 * @param coding how codes are made
 * @param names the concepts removed, or those kept
 * @param keep whether all but the named ones are removed
 * @param strength 1 removes all of it, 0 nothing
 */
public record RemoveConcepts(
    Site site, Coding coding, List<String> names, boolean keep, float strength)
    implements Edit.Queued {

  /** Places in a row of the report: see {@code cuda-kernels/remove_concepts.cu}. */
  static final int REPORTED = 5 + 2 * ConceptRemoval.NAMED;

  /** The last of them: the squared norm before the change. */
  static final int FOUND = REPORTED - 1;

  /**
   * How codes are made: edits of one site that agree in it are solved together.
   *
   * @param dictionary file or folder
   * @param layer whose atoms are used
   * @param when at which tokens
   */
  public record Coding(Path dictionary, int layer, Solver solver, Solve when) {}

  /** At which tokens a code is made. */
  public enum Solve {
    /** At each token that is edited: the paper's Algorithm 3. */
    EVERY_TOKEN,
    /**
     * Once, at the prompt's last token; the vector found there is subtracted from that token and
     * all generated ones, and earlier tokens of the prompt are left alone. The paper's appendix B.4
     * says that it was done so, against its Algorithm 3; it does not say that the vector is reused
     * for each layer separately (our inference).
     */
    PROMPT_END
  }

  public RemoveConcepts {
    names = List.copyOf(names);
    if (site.kind() != Site.Kind.RESID_PRE && site.kind() != Site.Kind.RESID_POST) {
      throw new IllegalArgumentException(
          "remove_concepts cannot act at " + site + ": its site must be hook_resid_pre or _post");
    }
    if (names.isEmpty()) {
      throw new IllegalArgumentException("remove_concepts needs the name of at least one concept");
    }
  }

  /**
   * Removes concepts at one site by the atoms of its layer, with an elastic net (alpha 0.05, tau
   * 0.95) solved at every token; {@link #with(Solver)} and the like change that.
   *
   * @param site such as {@code blocks.3.hook_resid_post}
   * @param dictionary file or folder, as {@code halter concepts build} makes it
   */
  public static RemoveConcepts at(String site, Path dictionary, String... concepts) {
    Site place = Site.of(site);
    Coding coding =
        new Coding(
            dictionary.normalize(),
            place.layer(),
            new Solver.ElasticNet(0.05, 0.95),
            Solve.EVERY_TOKEN);
    return new RemoveConcepts(place, coding, List.of(concepts), false, 1);
  }

  /** The same by another solver. */
  public RemoveConcepts with(Solver solver) {
    return with(new Coding(coding.dictionary, coding.layer, solver, coding.when));
  }

  /** The same, solved at other tokens. */
  public RemoveConcepts with(Solve when) {
    return with(new Coding(coding.dictionary, coding.layer, coding.solver, when));
  }

  private RemoveConcepts with(Coding newCoding) {
    return new RemoveConcepts(site, newCoding, names, keep, strength);
  }

  /** All concepts but the named ones go. */
  public RemoveConcepts allBut() {
    return new RemoveConcepts(site, coding, names, true, strength);
  }

  /** The same at another strength: 1 removes all of it, 0 nothing. */
  public RemoveConcepts withStrength(double newStrength) {
    return new RemoveConcepts(site, coding, names, keep, (float) newStrength);
  }

  @Override
  public String op() {
    return "remove_concepts";
  }

  @Override
  public Edit scaled(double more) {
    return withStrength(more * strength);
  }

  @Override
  public int reported() {
    return REPORTED;
  }

  @Override
  public Object together() {
    return coding;
  }

  /** Which atoms go: bit i of the words. */
  int[] mask(Dictionary dictionary) {
    int[] mask = new int[(dictionary.size() + 31) / 32];
    for (int atom : dictionary.findAll(names)) {
      mask[atom / 32] |= 1 << (atom % 32);
    }
    if (keep) {
      for (int atom = 0; atom < dictionary.size(); atom++) {
        mask[atom / 32] ^= 1 << (atom % 32);
      }
    }
    return mask;
  }

  /** Reads the intervention {@code remove_concepts}: an edit for each of its layers. */
  static List<Edit> read(JsonObject json, NamedFiles files, ModelConfig config) {
    json.only(
        "op",
        "dictionary",
        "layers",
        "site",
        "solver",
        "k",
        "tolerance",
        "alpha",
        "tau",
        "remove",
        "keep",
        "solve",
        "strength",
        "when");
    Path file = json.path("dictionary", files).normalize();
    Solver solver = solver(json);
    Solve solve =
        choice(json, "solve", "every_token", "prompt_end").equals("prompt_end")
            ? Solve.PROMPT_END
            : Solve.EVERY_TOKEN;
    String site =
        choice(json, "site", "hook_resid_post", "hook_resid_pre", "resid_post", "resid_pre");
    Site.Kind kind = site.endsWith("resid_pre") ? Site.Kind.RESID_PRE : Site.Kind.RESID_POST;
    float strength = (float) json.number("strength", -1e6, 1e6, 1);
    if (json.has("remove") == json.has("keep")) {
      throw new BadFileException(
          json.file(), "\"" + json.path("") + "\" must have exactly one of remove, keep");
    }
    boolean keep = json.has("keep");
    List<String> names = names(json, keep ? "keep" : "remove", files);
    try (DictionaryFile dictionary = DictionaryFile.open(file)) {
      dictionary.requireWidth(config.dModel());
      Set<String> known = new HashSet<>();
      for (int atom = 0; atom < dictionary.size(); atom++) {
        known.add(dictionary.name(atom));
      }
      for (String name : names) {
        if (!known.contains(name)) {
          throw json.wrong(
              keep ? "keep" : "remove",
              "names of concepts in %s, which has no \"%s\": %s"
                  .formatted(file, name, dictionary.hint(name)));
        }
      }
      List<Edit> edits = new ArrayList<>();
      for (int layer : layers(json, config)) {
        if (!dictionary.layers().isEmpty() && !dictionary.layers().contains(layer)) {
          throw json.wrong(
              "layers",
              "layers of %s, which has no atoms of layer %d: it has those of %s"
                  .formatted(file, layer, dictionary.layers()));
        }
        Coding coding = new Coding(file, layer, solver, solve);
        edits.add(new RemoveConcepts(new Site(kind, layer), coding, names, keep, strength));
      }
      return edits;
    }
  }

  private static Solver solver(JsonObject json) {
    String name = choice(json, "solver", "elastic_net", "lasso", "omp", "mp");
    boolean net = name.equals("elastic_net") || name.equals("lasso");
    List<String> settings =
        switch (name) {
          case "elastic_net" -> List.of("alpha", "tau");
          case "lasso" -> List.of("alpha");
          case "omp" -> List.of("k", "tolerance");
          default -> List.of("k");
        };
    for (String key : List.of("k", "tolerance", "alpha", "tau")) {
      if (json.has(key) && !settings.contains(key)) {
        throw json.wrong(key, "left out: solver " + name + " takes " + String.join(", ", settings));
      }
    }
    try {
      if (net) {
        double tau = name.equals("lasso") ? 1 : json.number("tau", 0, 1, 0.95);
        return new Solver.ElasticNet(json.number("alpha", 0, 1e6, 0.05), tau);
      }
      int k = json.integer("k", 1, 4096, 32);
      return name.equals("omp")
          ? new Solver.Omp(k, json.number("tolerance", 0, 1, 0))
          : new Solver.MatchingPursuit(k);
    } catch (IllegalArgumentException e) {
      throw new BadFileException(json.file(), "\"" + json.path("") + "\": " + e.getMessage(), e);
    }
  }

  /** One of the choices, the first of them where the key is left out. */
  private static String choice(JsonObject json, String key, String... choices) {
    String value = json.text(key, choices[0]).toLowerCase(Locale.ROOT);
    if (!List.of(choices).contains(value)) {
      throw json.wrong(key, "one of " + String.join(", ", choices));
    }
    return value;
  }

  /** From the first to the last layer that {@code [first, last]} names. */
  private static List<Integer> layers(JsonObject json, ModelConfig config) {
    List<Integer> ends = json.integers("layers");
    if (ends.size() != 2
        || ends.get(0) < 0
        || ends.get(0) > ends.get(1)
        || ends.get(1) >= config.nLayers()) {
      throw json.wrong(
          "layers", "[first, last], both included, from 0 to " + (config.nLayers() - 1));
    }
    List<Integer> layers = new ArrayList<>();
    for (int layer = ends.get(0); layer <= ends.get(1); layer++) {
      layers.add(layer);
    }
    return layers;
  }

  private static List<String> names(JsonObject json, String key, NamedFiles files) {
    List<String> names;
    if (json.value(key) instanceof List<?>) {
      names = json.texts(key);
    } else {
      JsonObject from = json.object(key);
      from.only("file", "top");
      ConceptScores scores = ConceptScores.read(from.path("file", files));
      names = scores.top(from.integer("top", 1, scores.concepts().size()));
    }
    if (names.isEmpty() || names.size() != new HashSet<>(names).size()) {
      throw json.wrong(key, "distinct names of concepts, at least one, or {\"file\", \"top\"}");
    }
    return names;
  }
}
