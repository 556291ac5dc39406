package dev.halter.tuning;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.model.Head;
import dev.halter.model.Llama;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;

/**
 * Steps of tuning over random lines of one length, of which the second half is learnt: one step
 * after another over the same lines. In this package for the run that makes them.
 */
public final class TimedSteps implements AutoCloseable {
  private final TuningRun run;
  private final List<Example> lines;
  private int made;

  /**
   * Loads a model for tuning.
   *
   * @param weights closed with it
   * @param heads that are tuned, spread over the layers from 3/8 of them on
   * @param tokens of a step
   * @param length of a line
   */
  public TimedSteps(
      Device device,
      ModelConfig config,
      Checkpoint weights,
      DType type,
      int heads,
      int tokens,
      int length) {
    Random random = new Random(1);
    this.lines =
        IntStream.range(0, tokens / length)
            .mapToObj(
                line -> random.ints(length + 1, 3, config.vocabularySize()).toArray())
            .map(line -> new Example(line, length / 2))
            .toList();
    int from = config.nLayers() * 3 / 8;
    List<Head> chosen =
        IntStream.range(0, heads)
            .mapToObj(
                i ->
                    new Head(
                        from + i % (config.nLayers() - from), i * 7 % config.nHeads()))
            .toList();
    TuningRun.Setting setting =
        new TuningRun.Setting(
                2e-5, lines.size(), 1, RateSchedule.CONSTANT, 0, 0, 1, true, tokens, 1)
            .in(type);
    this.run =
        new TuningRun(
            device,
            null,
            limits -> new Llama(device, config, weights, type, limits),
            new Selection(config, chosen, List.of(), Selection.ALL_PARTS),
            new TuningData(lines),
            null,
            setting,
            TuningRun.Means.AUTO);
  }

  /** Makes a step; returns how many tokens a second went through the model. */
  public double step() {
    long start = System.nanoTime();
    TuningRun.Step step = run.step(made++, lines);
    run.model().device().synchronize();
    return step.rows() / ((System.nanoTime() - start) / 1e9);
  }

  @Override
  public void close() {
    run.close();
  }
}
