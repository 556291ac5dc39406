package dev.halter.patching;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.SameBits;
import dev.halter.device.Scope;
import dev.halter.device.TestDevices;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.model.Llama;
import dev.halter.model.Site;
import dev.halter.patching.PathPatching.Variant;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.ModelCopy;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;
import java.util.stream.DoubleStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** First-order effects against the slope of path patching, in double arithmetic. */
class FirstOrderTest {
  static Stream<Arguments> models() {
    return PatchingGolden.NAMES.stream()
        .flatMap(name -> TestDevices.forModels().map(device -> Arguments.of(name, device)));
  }

  @ParameterizedTest
  @MethodSource("models")
  void everyEffectIsTheSlopeOfItsPatch(String name, Device device) {
    PatchingGolden golden = new PatchingGolden(name);
    double off = 0;
    try (Llama model = golden.load(device, DType.F32);
        Checkpoint weights = Checkpoint.open(golden.folder)) {
      for (Pair pair : golden.pairs()) {
        Effects effects = FirstOrder.of(model, List.of(pair), done -> {});
        double[] exact =
            deltas(PathPatching.of(model, List.of(pair), Variant.RECOMPUTE, false, done -> {}));
        try (Scope scope = device.scope()) {
          Patched patched = new Patched(scope, model, weights, pair);
          double[] whole = patched.changes(1, pair.answer());
          double[] slopes = patched.slopes(pair.answer());
          double[] foils = patched.slopes(pair.foil().orElseThrow());
          double largest = largest(slopes);
          assertTrue(largest > 0.05, "the patches do nothing");
          assertArrayEquals(exact, whole, 1e-3 * largest(whole), "the arithmetic is the sweep's");
          assertArrayEquals(slopes, deltas(effects), 1e-4 * largest, name);
          double difference = effects.reference().logitDifference();
          for (int i = 0; i < slopes.length; i++) {
            assertEquals(
                difference + slopes[i] - foils[i],
                effects.all().get(i).effect().logitDifference(),
                2e-4 * largest);
            off = Math.max(off, Math.abs(slopes[i] - exact[i]) / largest);
          }
        }
      }
    }
    assertTrue(off > 0.02, "slopes are no better than the sweep here: this shows nothing");
  }

  private static double[] deltas(Effects effects) {
    return effects.all().stream().mapToDouble(sender -> sender.effect().delta()).toArray();
  }

  private static double largest(double[] values) {
    return DoubleStream.of(values).map(Math::abs).max().orElseThrow();
  }

  /** Where eps outweighs what a norm divides, and MLPs multiply small numbers, it is exact. */
  @Test
  void whatIsLinearIsExact(@TempDir Path folder) throws IOException {
    PatchingGolden golden = new PatchingGolden("llama3");
    Path linear = folder.resolve("linear");
    try (ModelCopy copy = ModelCopy.of(golden.folder, linear);
        Checkpoint weights = Checkpoint.open(golden.folder)) {
      float[] embedding = weights.tensor("model.embed_tokens.weight").toFloats();
      for (int i = 0; i < embedding.length; i++) {
        embedding[i] *= 0x1p-12f;
      }
      copy.set("model.embed_tokens.weight", 0, 1, embedding);
      copy.finish();
    }
    Path config = linear.resolve("config.json");
    String json = Files.readString(config);
    Files.writeString(config, json.replaceFirst("\"rms_norm_eps\": *[^,]+", "\"rms_norm_eps\": 1"));
    try (Device device = CpuDevice.open(2);
        Llama model = Llama.load(linear, device, DType.F32, new Llama.Limits(128, 8, 8, 8, 64))) {
      List<Pair> pairs = golden.pairs();
      double[] exact = deltas(PathPatching.of(model, pairs, Variant.RECOMPUTE, false, done -> {}));
      double[] estimated = deltas(FirstOrder.of(model, pairs, done -> {}));
      assertArrayEquals(exact, estimated, 1e-3 * largest(exact));
    }
  }

  @Test
  void aCounterfactualThatIsTheReferenceHasNoEffectAtAll() {
    for (Device device : TestDevices.forModels().toList()) {
      PatchingGolden golden = new PatchingGolden("llama3");
      try (device;
          Llama model = golden.load(device, DType.F32)) {
        for (Pair pair : golden.pairs()) {
          int[] tokens = pair.reference();
          Pair same = new Pair(tokens, tokens, pair.answer(), OptionalInt.empty(), Map.of(), null);
          Effects effects = FirstOrder.of(model, List.of(same), done -> {});
          for (Effects.Sender sender : effects.all()) {
            assertEquals(0, sender.effect().delta(), SameBits.allowed(1e-5));
          }
          Effects both = FirstOrder.of(model, List.of(same, pair), done -> {});
          assertTrue(largest(deltas(both)) > 0, "one of the two has effects");
        }
      }
    }
  }

  @Test
  void resultsDoNotDependOnHowPairsAreCut() {
    PatchingGolden golden = new PatchingGolden("qwen3");
    try (Device device = CpuDevice.open(2);
        Llama model = golden.load(device, DType.F32)) {
      double[] together = deltas(FirstOrder.of(model, golden.pairs(), 100, done -> {}));
      assertArrayEquals(together, deltas(FirstOrder.of(model, golden.pairs(), 1, done -> {})));
    }
  }

  @Test
  void bf16IsCloseToF32() {
    PatchingGolden golden = new PatchingGolden("llama3");
    for (Device device : TestDevices.forModels().toList()) {
      try (device;
          Llama wide = golden.load(device, DType.F32);
          Llama narrow = golden.load(device, DType.BF16)) {
        double[] expected = deltas(FirstOrder.of(wide, golden.pairs(), done -> {}));
        double[] actual = deltas(FirstOrder.of(narrow, golden.pairs(), done -> {}));
        assertArrayEquals(expected, actual, 0.03 * largest(expected));
      }
    }
  }

  /**
   * The last token's row after a patch of some size, as {@link PathPatching} has it, in doubles.
   */
  private static final class Patched {
    private final ModelConfig config;
    private final Checkpoint weights;
    private final Map<Site, double[]> reference = new HashMap<>();
    private final Map<Site, double[]> difference = new HashMap<>();
    private final Map<String, float[]> tensors = new HashMap<>();

    Patched(Scope scope, Llama model, Checkpoint weights, Pair pair) {
      this.config = model.config();
      this.weights = weights;
      Set<Site> references = new HashSet<>(PathRows.attention(config.nLayers()));
      references.add(new Site(Site.Kind.RESID_MID, 0));
      Set<Site> senders = PathRows.senders(config.nLayers());
      PairActivations read =
          new PairActivations(scope, model, List.of(pair), false, references, senders);
      references.forEach(site -> reference.put(site, doubles(read.reference(site), site)));
      senders.forEach(site -> difference.put(site, doubles(read.difference(site), site)));
    }

    private double[] doubles(Buffer buffer, Site site) {
      float[] values = buffer.toFloats(site.width(config));
      double[] doubles = new double[values.length];
      Arrays.setAll(doubles, i -> values[i]);
      return doubles;
    }

    /** Central differences of a small step. */
    double[] slopes(int token) {
      double step = 1e-4;
      double[] up = changes(step, token);
      double[] down = changes(-step, token);
      double[] slopes = new double[up.length];
      Arrays.setAll(slopes, i -> (up[i] - down[i]) / (2 * step));
      return slopes;
    }

    /** What each sender changes of a token's logit by so much of its difference. */
    double[] changes(double step, int token) {
      int each = config.nHeads() + 1;
      double before = logit(-1, 0, token);
      double[] changes = new double[config.nLayers() * each];
      Arrays.setAll(changes, sender -> logit(sender, step, token) - before);
      return changes;
    }

    private double logit(int sender, double step, int token) {
      int each = config.nHeads() + 1;
      double[] x = reference.get(new Site(Site.Kind.RESID_MID, 0)).clone();
      for (int layer = 0; layer < config.nLayers(); layer++) {
        if (layer > 0) {
          add(x, 1, reference.get(new Site(Site.Kind.ATTN_OUT, layer)));
        }
        if (sender >= layer * each && sender < layer * each + config.nHeads()) {
          double[] z = difference.get(new Site(Site.Kind.Z, layer)).clone();
          int from = (sender - layer * each) * config.dHead();
          Arrays.fill(z, 0, from, 0);
          Arrays.fill(z, from + config.dHead(), z.length, 0);
          add(x, step, multiply("model.layers.%d.self_attn.o_proj".formatted(layer), z, false));
        }
        add(x, 1, mlp(layer, x));
        if (sender == layer * each + config.nHeads()) {
          add(x, step, difference.get(new Site(Site.Kind.MLP_OUT, layer)));
        }
      }
      double[] normed = norm(x, "model.norm.weight");
      boolean isTied = !weights.names().contains("lm_head.weight");
      String head = isTied ? "model.embed_tokens.weight" : "lm_head.weight";
      double logit = 0;
      for (int i = 0; i < normed.length; i++) {
        logit += normed[i] * tensor(head)[token * normed.length + i];
      }
      return logit;
    }

    private double[] mlp(int layer, double[] x) {
      String block = "model.layers." + layer;
      double[] h = norm(x, block + ".post_attention_layernorm.weight");
      double[] post = multiply(block + ".mlp.gate_proj", h, true);
      double[] up = multiply(block + ".mlp.up_proj", h, true);
      for (int i = 0; i < post.length; i++) {
        post[i] *= up[i] / (1 + Math.exp(-post[i]));
      }
      return multiply(block + ".mlp.down_proj", post, true);
    }

    private double[] norm(double[] x, String gain) {
      double squares = DoubleStream.of(x).map(value -> value * value).sum();
      double rms = Math.sqrt(squares / x.length + config.rmsNormEps());
      double[] normed = new double[x.length];
      Arrays.setAll(normed, i -> x[i] / rms * tensor(gain)[i]);
      return normed;
    }

    /** A projection, of differences without its bias. */
    private double[] multiply(String projection, double[] x, boolean biased) {
      float[] matrix = tensor(projection + ".weight");
      double[] y = new double[matrix.length / x.length];
      boolean hasBias = biased && weights.names().contains(projection + ".bias");
      for (int row = 0; row < y.length; row++) {
        y[row] = hasBias ? tensor(projection + ".bias")[row] : 0;
        for (int i = 0; i < x.length; i++) {
          y[row] += (double) matrix[row * x.length + i] * x[i];
        }
      }
      return y;
    }

    private static void add(double[] x, double factor, double[] y) {
      for (int i = 0; i < x.length; i++) {
        x[i] += factor * y[i];
      }
    }

    private float[] tensor(String name) {
      return tensors.computeIfAbsent(name, key -> weights.tensor(key).toFloats());
    }
  }
}
