package dev.halter.model;

import dev.halter.device.Buffer;
import dev.halter.device.Device;
import dev.halter.device.Graph;
import dev.halter.device.Scope;
import dev.halter.device.Timer;
import dev.halter.model.FewRows.Input;
import dev.halter.model.LlamaWeights.Layer;
import dev.halter.weights.ModelConfig;

/**
 * The products of few rows of all layers of a model, as decode steps launch them, recorded: what
 * one launch takes, other layers' weights having left the caches before it.
 */
public final class TimedFewRows implements AutoCloseable {
  private static final int REPEATS = 8;

  private final Llama model;
  private final Scope scope;
  private final FewRows few;
  private final int rows;
  private final Buffer x;
  private final Buffer qkv;
  private final Buffer z;
  private final Buffer post;
  private final Buffer frequencies;
  private final Graph graph;

  /**
   * Records them.
   *
   * @param part {@code rope}, {@code o}, {@code gate}, {@code down}, or {@code layer}: one after
   *     another
   */
  public TimedFewRows(Llama model, String part, int rows) {
    this.model = model;
    this.rows = rows;
    Device device = model.device();
    ModelConfig config = model.config();
    this.scope = device.scope();
    this.few = FewRows.of(device, config, model.weights(), model.type());
    Layer w = model.weights().layer(0);
    this.x = scope.of(new float[rows * config.dModel()]);
    this.qkv = activations(w.qkv().getFirst().out());
    this.z = activations(w.o().in());
    this.post = activations(w.down().in());
    this.frequencies = scope.of(config.inverseFrequencies());
    Batch batch = new Batch();
    int[] sequences = new int[rows];
    for (int i = 0; i < rows; i++) {
      sequences[i] = model.cache().open();
      model.cache().reserve(sequences[i], 1);
      batch.add(sequences[i], 0, new int[] {1}, new int[1], 0);
    }
    model.forward(batch, null); // whose step's tables are used on
    for (int i = 0; i < model.config().nLayers(); i++) {
      launch(part, i); // loads the code
    }
    this.graph = device.record(() -> launches(part));
    for (int sequence : sequences) {
      model.cache().release(sequence);
    }
  }

  private Buffer activations(int columns) {
    Buffer buffer = scope.allocate((long) model.type().bytes() * rows * columns);
    buffer.clear();
    return buffer;
  }

  private void launches(String part) {
    for (int layer = 0; layer < model.config().nLayers(); layer++) {
      launch(part, layer);
    }
  }

  private void launch(String part, int layer) {
    Layer w = model.weights().layer(layer);
    float eps = (float) model.config().rmsNormEps();
    switch (part) {
      case "rope" ->
          few.rope(
              qkv,
              new Input(x, new RowKernels.Norm(w.ln1(), eps, null)),
              w.qkv().getFirst(),
              w.qkvBias(),
              frequencies,
              model.step(),
              model.cache(),
              layer,
              rows);
      case "o" -> few.add(x, z, w.o(), w.oBias(), rows);
      case "gate" ->
          few.gate(
              post,
              new Input(x, new RowKernels.Norm(w.ln2(), eps, null)),
              w.gateUp().getFirst(),
              w.gateBias(),
              w.upBias(),
              rows);
      case "down" -> few.add(x, post, w.down(), w.downBias(), rows);
      case "layer" -> {
        for (String each : new String[] {"rope", "o", "gate", "down"}) {
          launch(each, layer);
        }
      }
      default -> throw new IllegalArgumentException("no part " + part);
    }
  }

  /** Microseconds of a layer's part. */
  public double microseconds() {
    long[] nanoseconds = new long[1];
    try (Timer timer = model.device().timer()) {
      timer.start();
      for (int i = 0; i < REPEATS; i++) {
        graph.launch();
      }
      timer.stop(time -> nanoseconds[0] = time);
      timer.finish();
    }
    return nanoseconds[0] / 1e3 / REPEATS / model.config().nLayers();
  }

  @Override
  public void close() {
    graph.close();
    scope.close();
  }
}
