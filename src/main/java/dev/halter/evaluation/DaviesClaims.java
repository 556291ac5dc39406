package dev.halter.evaluation;

import dev.halter.evaluation.Claim.Figure;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Site;
import dev.halter.neurons.ConceptNeuron;
import dev.halter.neurons.MapAgreement;
import dev.halter.neurons.NeuronMap;
import dev.halter.neurons.NeuronSearch;
import dev.halter.neurons.NeuronSearch.Bounds;
import dev.halter.neurons.Verification;
import dev.halter.text.Message;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.function.Consumer;

/**
 * The claims of Davies (arXiv 2501.02688): up-projection neurons decode to tokens through the LM
 * head, fine-tuning leaves most of what they decode to, and clamping one raises its concept.
 */
public final class DaviesClaims {
  private static final float[] VALUES = {-60, -40, -20, 20, 40, 60};
  private static final int CANDIDATES = 4;
  private static final int SHORTEST_WORD = 3;
  private static final double TENFOLD = 10;

  /**
   * What is tried.
   *
   * @param question of a user whose answer the clamp is to change
   * @param concept that it is to change to
   * @param concepts how many words are drawn for the share of concepts with a working neuron
   */
  public record Tried(String question, String concept, int concepts, long seed) {}

  private DaviesClaims() {}

  /**
   * Puts the claims to a model.
   *
   * @param other the map of the model that this one was tuned from or to; null if there is none
   * @param progress hears what is done next
   * @throws IllegalArgumentException if the maps cannot be compared, or the concept is no token
   */
  public static List<Claim> of(
      LanguageModel model, NeuronMap other, Tried tried, Consumer<String> progress) {
    progress.accept("neuron map");
    long start = System.nanoTime();
    NeuronMap map = NeuronMap.of(model);
    double seconds = (System.nanoTime() - start) / 1e9;
    List<Claim> claims = new ArrayList<>();
    claims.add(decoding(map, seconds));
    claims.add(agreement(map, other));
    progress.accept("the neuron of " + tried.concept);
    claims.add(clamp(model, tried));
    progress.accept("neurons of %,d words".formatted(tried.concepts));
    claims.add(working(model, map, tried));
    return claims;
  }

  private static Claim decoding(NeuronMap map, double seconds) {
    int neurons = map.settings().layers() * map.settings().neurons();
    return Claim.tried(
        "All up-projection neurons can be decoded into tokens in seconds.",
        "Every row of every up-projection through the LM head, the best tokens of both signs kept.",
        "Under 15 minutes without parallelisation (v1, abstract), under 10 s (v2, abstract), of"
            + " Llama-3.1-8B: 458,752 neurons.",
        List.of(
            "Whether the paper norms rows before the head is not known: rows are taken as they are,"
                + " which leaves their order of tokens as unit length would."),
        List.of(
            Figure.seconds("time", seconds, neurons), Figure.number("neurons", neurons, neurons)));
  }

  private static Claim agreement(NeuronMap map, NeuronMap other) {
    String claim = "Most neurons keep their top token through instruction tuning.";
    String protocol = "Share of up-projection neurons with the same top token in both models.";
    String paper = "75.4 % of Llama-3.1-8B against its instruct model (\">75 %\" in the abstract).";
    if (other == null) {
      return Claim.untried(
          claim, protocol, paper, "the other model's folder, --against DIR: its base or its tuned");
    }
    MapAgreement agreement = MapAgreement.of(map, other);
    List<Figure> figures = new ArrayList<>();
    figures.add(Figure.whole("same top token", agreement.all().top(), agreement.neurons()));
    for (MapAgreement.SignShares sign : agreement.perSign()) {
      figures.add(
          Figure.whole(
              sign.sign() > 0 ? "of w alone" : "of -w alone",
              sign.shares().top(),
              agreement.neurons()));
    }
    return Claim.tried(
        claim,
        protocol,
        paper,
        List.of(
            "Each model is decoded by its own LM head.",
            "Both signs of a row count, as a neuron's sign is arbitrary; w alone is told beside."),
        figures);
  }

  private static Claim clamp(LanguageModel model, Tried tried) {
    String claim = "Clamping a concept's neuron makes the model answer with the concept.";
    String protocol =
        "\"%s\", the neuron that decodes to \"%s\" held at the prompt's last token."
            .formatted(tried.question, tried.concept);
    String paper =
        "With the dog neuron clamped the instruct model always answers dogs (text; the value, the"
            + " site and the probabilities are not known to us).";
    Optional<ConceptNeuron> found = ConceptNeuron.find(model, tried.question, tried.concept);
    if (found.isEmpty()) {
      return Claim.untried(
          claim,
          protocol,
          paper,
          "another concept, --concept T: no neuron of this model decodes to \"%s\""
              .formatted(tried.concept));
    }
    ConceptNeuron neuron = found.get();
    return Claim.tried(
        claim,
        protocol,
        paper,
        List.of(
            "Site hook_pre_linear, %d.%d, held at %s: of ten values the one that makes the concept"
                    .formatted(neuron.hit().layer(), neuron.hit().neuron(), neuron.clamp().value())
                + " likeliest while the answer stays a text.",
            "Held at the prompt's last token alone."),
        List.of(
            Figure.number("probability before", neuron.before().probability(), 1),
            Figure.number("probability clamped", neuron.clamp().effect().probability(), 1),
            Figure.number("rank clamped, 0 the answer", neuron.clamp().effect().rank(), 1)));
  }

  private static Claim working(LanguageModel model, NeuronMap map, Tried tried) {
    NeuronSearch search = new NeuronSearch(map);
    int[] prompt = model.encode(List.of(new Message("user", tried.question)));
    List<Integer> words = words(model, search);
    Collections.shuffle(words, new Random(tried.seed));
    words = words.subList(0, Math.min(tried.concepts, words.size()));
    int works = 0;
    int controlWorks = 0;
    for (int word : words) {
      Verification tested =
          Verification.of(
              model.engine(),
              prompt,
              Set.of(word),
              search,
              Verification.candidates(search, Set.of(word), Bounds.top(CANDIDATES)),
              Site.Kind.PRE_LINEAR,
              VALUES,
              tried.seed);
      double least = TENFOLD * tested.before().probability();
      works += tested.trials().stream().anyMatch(t -> isRaised(t.best(), least)) ? 1 : 0;
      controlWorks +=
          tested.trials().stream().anyMatch(t -> isRaised(t.controlBest(), least)) ? 1 : 0;
    }
    double n = words.size();
    return Claim.tried(
        "Neurons that decode to a concept raise it when they are clamped.",
        "Words drawn from those that some neuron decodes to first; up to %d such neurons of each, held"
                .formatted(CANDIDATES)
            + " at %d values, beside as many random neurons of their layers."
                .formatted(VALUES.length),
        "Shown for single neurons, such as those of \"dog\" and \"California\"; no share is given.",
        List.of(
            "A neuron works if a clamp makes its word at least ten times as likely as next token.",
            "Words are tokens of %d letters or more that begin with a space."
                .formatted(SHORTEST_WORD),
            "Held at every token, at values from -60 to 60; models of larger activations want more."),
        List.of(
            Figure.share("words with a working neuron", works / n, words.size()),
            Figure.share("likewise of random neurons", controlWorks / n, words.size())));
  }

  private static boolean isRaised(Verification.Clamp clamp, double least) {
    return clamp.effect().probability() >= least || clamp.effect().rank() == 0;
  }

  /** Tokens that are words of their own and that some neuron decodes to first. */
  private static List<Integer> words(LanguageModel model, NeuronSearch search) {
    List<Integer> words = new ArrayList<>();
    for (int id = 0; id < model.config().vocabularySize(); id++) {
      int token = id;
      List<NeuronSearch.Hit> hits = search.byToken(Set.of(id), Bounds.NONE);
      if (hits.stream().anyMatch(hit -> hit.rank() == 0 && hit.tokenId() == token)) {
        String piece = model.tokenizer().piece(id);
        if (piece.matches("[ \u2581]\\p{L}{" + SHORTEST_WORD + ",}")) {
          words.add(id);
        }
      }
    }
    if (words.isEmpty()) {
      throw new IllegalArgumentException("no neuron of this model decodes to a word first");
    }
    return words;
  }
}
