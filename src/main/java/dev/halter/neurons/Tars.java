package dev.halter.neurons;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Matrix;
import dev.halter.device.Scope;
import dev.halter.generation.Alternatives;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.LogProbabilities;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import dev.halter.model.Capture;
import dev.halter.model.LlamaWeights.Linear;
import dev.halter.model.Site;
import dev.halter.scoring.Logits;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.ModelCopy;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.TensorNames;
import dev.halter.weights.TensorView;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import java.util.Set;

/**
 * Takes a concept out of a model by editing single weight vectors: Targeted Angular Reversal
 * (Davies, arXiv 2412.10257). Its four steps, from the abstract and summaries of the paper:
 *
 * <ol>
 *   <li>the hidden state on a prompt about the concept approximates the concept's direction;
 *   <li>noise is added and the result decoded by the LM head; what triggers the concept with high
 *       probability is the targeting vector t;
 *   <li>t's cosine with every feed-forward vector that acts on the residual stream is taken: rows
 *       of gate_proj and up_proj read it, columns of down_proj write it;
 *   <li>the vectors of highest cosine are replaced by the reversed targeting vector.
 * </ol>
 *
 * <p>Our inference, since the paper's text could not be read: the hidden state is hook_resid_post
 * of the last block at the last token, averaged over prompts on the unit sphere; decoding goes
 * through the final norm; a replacement keeps its length, w' = −‖w‖ t/‖t‖; how many vectors and of
 * which matrices is the caller's choice, as are the noise and the draws.
 */
public final class Tars {
  /** Rows decoded in one product. */
  private static final int ROWS = 64;

  private final LanguageModel model;
  private final Set<Integer> concept;

  /**
   * Edits are to take out a concept.
   *
   * @param concept the tokens that stand for it
   */
  public Tars(LanguageModel model, Set<Integer> concept) {
    this.model = model;
    this.concept = Set.copyOf(concept);
  }

  /**
   * How to refine: {@code rounds} times, {@code draws} noisy copies of the best vector so far.
   *
   * @param noise length of the noise in lengths of the vector
   */
  public record Refinement(double noise, int draws, int rounds, long seed) {}

  /**
   * A targeting vector.
   *
   * @param vector [d_model], in the residual stream after the last block
   * @param probability of the concept when it is decoded
   * @param unrefined that of the mean hidden state it began as
   * @param cosine with the mean hidden state
   */
  public record Target(float[] vector, double probability, double unrefined, double cosine) {}

  /** A weight vector near a target: a row of up_proj or gate_proj or a column of down_proj. */
  public record Nearest(
      NeuronMap.Projection projection, int layer, int neuron, double cosine, double norm) {}

  /**
   * The targeting vector of the concept.
   *
   * @param prompts each ends where the concept should come next
   */
  public Target target(List<int[]> prompts, Refinement refinement) {
    float[] mean = hiddenState(prompts);
    try (Scope scope = model.device().scope()) {
      Decoder decoder = new Decoder(scope);
      double unrefined = decoder.probabilities(List.of(mean))[0];
      float[] best = mean;
      double probability = unrefined;
      Random random = new Random(refinement.seed);
      for (int round = 0; round < refinement.rounds; round++) {
        float[] from = best;
        double sigma = refinement.noise * norm(from) / Math.sqrt(from.length);
        for (int draw = 0; draw < refinement.draws; draw += ROWS) {
          List<float[]> noisy = new ArrayList<>();
          for (int i = draw; i < Math.min(refinement.draws, draw + ROWS); i++) {
            noisy.add(withNoise(from, sigma, random));
          }
          double[] found = decoder.probabilities(noisy);
          for (int i = 0; i < found.length; i++) {
            if (found[i] > probability) {
              probability = found[i];
              best = noisy.get(i);
            }
          }
        }
      }
      model.llama().requireWhole();
      return new Target(best, probability, unrefined, dot(best, mean) / norm(best) / norm(mean));
    }
  }

  /** Mean over prompts of the unit vectors along the last hidden state, at their mean length. */
  private float[] hiddenState(List<int[]> prompts) {
    Site site = new Site(Site.Kind.RESID_POST, model.config().nLayers() - 1);
    int d = model.config().dModel();
    List<Request> requests = new ArrayList<>();
    for (int[] prompt : prompts) {
      requests.add(
          Request.of(prompt)
              .withMaxTokens(0)
              .with(Capture.last(model.config(), Set.of(site), prompt.length)));
    }
    model.engine().run(requests).forEach(result -> result.orThrow());
    double[] sum = new double[d];
    double length = 0;
    for (Request request : requests) {
      float[] state = request.capture().values().get(site);
      double norm = norm(state);
      length += norm / prompts.size();
      for (int i = 0; i < d; i++) {
        sum[i] += state[i] / norm;
      }
    }
    double norm = Math.sqrt(Arrays.stream(sum).map(x -> x * x).sum());
    float[] mean = new float[d];
    for (int i = 0; i < d; i++) {
      mean[i] = (float) (sum[i] / norm * length);
    }
    return mean;
  }

  private static float[] withNoise(float[] vector, double sigma, Random random) {
    float[] noisy = new float[vector.length];
    for (int i = 0; i < noisy.length; i++) {
      noisy[i] = (float) (vector[i] + sigma * random.nextGaussian());
    }
    return noisy;
  }

  /** The concept's probability when vectors of the residual stream are decoded. */
  private final class Decoder {
    private final Device device = model.device();
    private final Linear head = model.llama().weights().head();
    private final int d = model.config().dModel();
    private final int vocabulary = model.config().vocabularySize();
    private final DType type = device.mixesTypes() ? DType.F32 : head.type();
    private final float[] gain =
        model.llama().weights().checkpoint().tensor(TensorNames.FINAL_NORM).toFloats();
    private final Buffer rows;
    private final Buffer logits;

    Decoder(Scope scope) {
      rows = scope.allocate((long) ROWS * d * type.bytes());
      logits = scope.allocate(4L * ROWS * vocabulary);
    }

    double[] probabilities(List<float[]> vectors) {
      float[] block = new float[ROWS * d];
      for (int row = 0; row < vectors.size(); row++) {
        float[] vector = vectors.get(row);
        double rms = Math.sqrt(dot(vector, vector) / d + model.config().rmsNormEps());
        for (int i = 0; i < d; i++) {
          block[row * d + i] = (float) (vector[i] / rms * gain[i]);
        }
      }
      upload(block);
      device.multiply(
          vectors.size(),
          vocabulary,
          d,
          new Matrix(rows, type, d),
          new Matrix(head.weight(), head.type(), d),
          new Matrix(logits, DType.F32, vocabulary));
      double[] probabilities = new double[vectors.size()];
      for (int row = 0; row < probabilities.length; row++) {
        probabilities[row] = probability(logits.slice(4L * row * vocabulary).toFloats(vocabulary));
      }
      return probabilities;
    }

    private void upload(float[] block) {
      if (type == DType.F32) {
        rows.set(block);
        return;
      }
      short[] bits = new short[block.length];
      for (int i = 0; i < bits.length; i++) {
        bits[i] = SafetensorsWriter.bf16(block[i]);
      }
      rows.copyFrom(MemorySegment.ofArray(bits));
    }
  }

  /** The concept's probability in a row of logits. */
  private double probability(float[] logits) {
    double logSum = Logits.logSumExp(logits, 0, logits.length);
    return concept.stream().mapToDouble(token -> Math.exp(logits[token] - logSum)).sum();
  }

  /**
   * The weight vectors of highest cosine with a target, highest first.
   *
   * @param projections whose vectors to look at
   */
  public List<Nearest> nearest(float[] target, Set<NeuronMap.Projection> projections, int count) {
    Checkpoint checkpoint = model.llama().weights().checkpoint();
    List<Nearest> found = new ArrayList<>();
    for (int layer = 0; layer < model.config().nLayers(); layer++) {
      for (NeuronMap.Projection projection : projections) {
        TensorView weights = checkpoint.tensor(projection.tensor(layer));
        found.addAll(nearest(weights, target, projection, layer));
        found.sort(Comparator.comparingDouble(Nearest::cosine).reversed());
        found.subList(Math.min(count, found.size()), found.size()).clear();
      }
    }
    checkpoint.requireWhole();
    return found;
  }

  private List<Nearest> nearest(
      TensorView weights, float[] target, NeuronMap.Projection projection, int layer) {
    ModelConfig config = model.config();
    int neurons = config.dMlp();
    int d = config.dModel();
    double[] dots = new double[neurons];
    double[] squares = new double[neurons];
    if (projection == NeuronMap.Projection.DOWN) {
      float[] row = new float[neurons];
      for (int i = 0; i < d; i++) {
        weights.copyFloats((long) i * neurons, row);
        for (int neuron = 0; neuron < neurons; neuron++) {
          dots[neuron] += (double) row[neuron] * target[i];
          squares[neuron] += (double) row[neuron] * row[neuron];
        }
      }
    } else {
      float[] row = new float[d];
      for (int neuron = 0; neuron < neurons; neuron++) {
        weights.copyFloats((long) neuron * d, row);
        dots[neuron] = dot(row, target);
        squares[neuron] = dot(row, row);
      }
    }
    double length = norm(target);
    List<Nearest> nearest = new ArrayList<>();
    for (int neuron = 0; neuron < neurons; neuron++) {
      double norm = Math.sqrt(squares[neuron]);
      double cosine = norm == 0 ? 0 : dots[neuron] / norm / length;
      nearest.add(new Nearest(projection, layer, neuron, cosine, norm));
    }
    return nearest;
  }

  /**
   * Writes a copy of the model in which each of these vectors is −‖w‖ t/‖t‖.
   *
   * @param folder a new folder
   */
  public void write(Path folder, float[] target, List<Nearest> edits) {
    double length = norm(target);
    try (ModelCopy copy = ModelCopy.of(model.folder(), folder)) {
      for (Nearest edit : edits) {
        float[] reversed = new float[target.length];
        for (int i = 0; i < reversed.length; i++) {
          reversed[i] = (float) (-edit.norm * target[i] / length);
        }
        String tensor = edit.projection.tensor(edit.layer);
        if (edit.projection == NeuronMap.Projection.DOWN) {
          copy.set(tensor, edit.neuron, model.config().dMlp(), reversed);
        } else {
          copy.set(tensor, (long) edit.neuron * target.length, 1, reversed);
        }
      }
      copy.finish();
    }
  }

  /**
   * What a model says at the end of a prompt.
   *
   * @param probability of the concept as the next token
   * @param topToken the greedy choice
   */
  public record Trigger(double probability, int topToken) {}

  /** The concept's probability after each prompt, in a model: this one or the edited copy. */
  public List<Trigger> triggers(LanguageModel asked, List<int[]> prompts) {
    LogProbabilities wanted = LogProbabilities.NONE.withTokens(List.copyOf(concept));
    List<Request> requests =
        prompts.stream().map(prompt -> Request.of(prompt).withMaxTokens(1).with(wanted)).toList();
    return asked.engine().run(requests).stream().map(Tars::trigger).toList();
  }

  private static Trigger trigger(Result result) {
    List<Alternatives.Candidate> concept = result.orThrow().alternatives().getFirst().named();
    double probability =
        concept.stream().mapToDouble(token -> Math.exp(token.logProbability())).sum();
    return new Trigger(probability, result.tokens()[0]);
  }

  private static double dot(float[] a, float[] b) {
    double sum = 0;
    for (int i = 0; i < a.length; i++) {
      sum += (double) a[i] * b[i];
    }
    return sum;
  }

  private static double norm(float[] vector) {
    return Math.sqrt(dot(vector, vector));
  }
}
