package dev.halter.cli;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.files.Destination;
import dev.halter.files.Json;
import dev.halter.generation.LanguageModel;
import dev.halter.tuning.LossCurve;
import dev.halter.tuning.RateSchedule;
import dev.halter.tuning.Selection;
import dev.halter.tuning.TuningData;
import dev.halter.tuning.TuningRun;
import dev.halter.weights.Checkpoint;
import dev.halter.weights.ModelConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

@Command(
    name = "tune",
    description = {
      "Tunes chosen heads and MLPs, and writes the tuned model, or a plan, as a folder.",
      "The loss is of completions (arXiv 2409.01659). A line: {\"prompt\", \"completion\"}, {\"messages\"},",
      "{\"instruction\", \"input\", \"output\"} or {\"prompt_tokens\", \"completion_tokens\"}."
    })
final class TuneCommand implements Callable<Integer> {
  @Mixin ModelOptions options;

  @Option(names = "--data", paramLabel = "F", required = true, description = "Texts to learn.")
  Path data;

  @Option(
      names = "--eval-data",
      paramLabel = "F",
      description = "Lines that are not learnt but measured, before and after.")
  Path evalData;

  @Mixin TunedOptions tuned;

  @Option(
      names = "--out",
      paramLabel = "DIR",
      required = true,
      description =
          "New folder: the tuned model; with --train scale or bias plan.json, which --plan takes.")
  Path out;

  @Option(
      names = "--adapter",
      paramLabel = "DIR",
      description = "Write a LoRA adapter of PEFT as well, which holds the same change of heads.")
  Path adapter;

  @Option(
      names = "--curve",
      paramLabel = "F",
      description = "Draw the loss over the steps as a picture: F.svg, F.png or F.html.")
  Path curve;

  @Option(
      names = "--learning-rate",
      paramLabel = "X",
      description = "The highest (default: 2e-5; with --train scale 5e-3, with --train bias 1e-2).")
  Double learningRate;

  @Option(
      names = "--epochs",
      paramLabel = "N",
      description = "Times that all lines are learnt (default: 2).")
  Integer epochs;

  @Option(names = "--max-steps", paramLabel = "N", description = "Steps, in place of --epochs.")
  Integer maxSteps;

  @Option(
      names = "--batch-size",
      paramLabel = "N",
      defaultValue = "16",
      description = "Lines of a step (default: ${DEFAULT-VALUE}).")
  int batchSize;

  @Option(
      names = "--max-seq-len",
      paramLabel = "N",
      description = "Most tokens of a line; a longer one is an error (default: 2048).")
  Integer maxSeqLen;

  @Option(
      names = "--lr-scheduler",
      paramLabel = "S",
      defaultValue = "linear",
      description = "constant, linear or cosine (default: ${DEFAULT-VALUE}).")
  String scheduler;

  @Option(
      names = "--warmup-ratio",
      paramLabel = "X",
      defaultValue = "0",
      description =
          "Share of the steps in which the learning rate rises (default: ${DEFAULT-VALUE}).")
  double warmupRatio;

  @Option(
      names = "--weight-decay",
      paramLabel = "X",
      defaultValue = "0",
      description = "Decay of the tuned weights (default: ${DEFAULT-VALUE}).")
  double weightDecay;

  @Option(
      names = "--max-grad-norm",
      paramLabel = "X",
      defaultValue = "1",
      description = "What the gradient's norm is cut to; 0: off (default: ${DEFAULT-VALUE}).")
  double maxGradNorm;

  @Option(
      names = "--grad-scale",
      paramLabel = "S",
      description =
          "Of weights: heads (gradients of heads times heads / tuned heads of the layer, as in the"
              + " paper) or none (default: heads).")
  String gradScale;

  @Option(
      names = "--pass-tokens",
      paramLabel = "N",
      description =
          "Most tokens at once through the model; a step with more has several passes, to the same"
              + " gradients and with less memory (default: 2048, 8192 on CUDA).")
  Integer passTokens;

  @Option(
      names = "--recompute",
      paramLabel = "N",
      description =
          "Layers, from the lowest tuned one on, of which only the input is kept: the rest is made"
              + " again, to the same gradients (default: as few as the memory takes).")
  Integer recompute;

  @Option(
      names = "--cache-prefix",
      paramLabel = "MIB",
      description =
          "Make what comes into the lowest tuned layer once and not in every epoch, for as many lines"
              + " as fit into this (default: not at all).")
  Integer cachePrefix;

  @Option(
      names = "--seed",
      paramLabel = "N",
      defaultValue = "0",
      description = "Of the lines' order (default: ${DEFAULT-VALUE}).")
  long seed;

  @Option(
      names = "--save-steps",
      paramLabel = "N",
      description =
          "Every N steps, write what it takes to go on to DIR.checkpoint.safetensors (default: never);"
              + " it is gone when the run is done.")
  Integer saveSteps;

  @Option(
      names = "--resume",
      description = "Go on from that file, if it is there, to the very same result.")
  boolean resume;

  @Mixin OutputOptions output;

  @Override
  public Integer call() {
    check();
    RateSchedule schedule = OptionValue.of(RateSchedule.class, "--lr-scheduler", scheduler);
    Path folder = options.folder();
    ModelConfig config = ModelConfig.read(folder);
    Selection selection = tuned.of(config);
    if (adapter != null) {
      TuningRun.requireAdapter(config, selection);
    }
    int longest = maxSeqLen == null ? Math.min(2048, config.maxPositions()) : maxSeqLen;
    if (longest > config.maxPositions()) {
      throw new WrongUseException(
          "--max-seq-len is %d, the model has %d positions"
              .formatted(longest, config.maxPositions()));
    }
    TuningData texts = TuningData.read(data, folder, config, longest);
    TuningData heldOut =
        evalData == null ? null : TuningData.read(evalData, folder, config, longest);
    int perEpoch = Math.ceilDiv(texts.size(), batchSize);
    TuningRun.Setting setting =
        new TuningRun.Setting(
            rate(),
            batchSize,
            maxSteps != null ? maxSteps : perEpoch * (epochs == null ? 2 : epochs),
            schedule,
            warmupRatio,
            weightDecay,
            maxGradNorm,
            scalesHeads(),
            passTokens == null ? 0 : passTokens,
            seed);
    TuningRun.Means means =
        new TuningRun.Means(recompute, cachePrefix == null ? 0 : (long) cachePrefix << 20);
    try (Device device = options.openDevice();
        TuningRun run =
            new TuningRun(
                device,
                folder,
                selection,
                texts,
                heldOut,
                setting.in(activations(folder, device)),
                means)) {
      System.err.printf(
          "%,d %s are tuned, on %,d lines in %,d steps%n",
          selection.parameters(),
          tuned.isOfWeights() ? "of the model's weights" : "numbers of a plan",
          texts.size(),
          setting.steps());
      System.err.println("memory: " + run.memory().toString());
      Path checkpoint = out.resolveSibling(out.getFileName() + ".checkpoint.safetensors");
      TuningRun.Evaluation before = heldOut == null ? null : evaluate("before", run);
      Map<String, Object> result = tune(run, setting, checkpoint);
      TuningRun.Evaluation after = heldOut == null ? null : evaluate("after", run);
      result.put("out", out.toString());
      if (heldOut != null) {
        result.put("eval", Json.object("before", document(before), "after", document(after)));
      }
      run.write(out, Json.text(note(run, setting, texts, result)) + "\n");
      if (adapter != null) {
        run.writeAdapter(adapter);
      }
      if (curve != null) {
        LossCurve.of(run.steps(), after).write(curve);
      }
      delete(checkpoint);
      if (output.isJson()) {
        Map<String, Object> all = Json.object("parameters", selection.parameters());
        all.putAll(result);
        output.print(all);
      } else {
        System.out.println(out);
      }
      return 0;
    }
  }

  private DType activations(Path folder, Device device) {
    try (Checkpoint checkpoint = Checkpoint.open(folder)) {
      return LanguageModel.activations(options.dtype, device, checkpoint);
    }
  }

  /** Makes the steps that are left of a run. */
  private Map<String, Object> tune(TuningRun run, TuningRun.Setting setting, Path checkpoint) {
    if (resume && Files.exists(checkpoint)) {
      run.resume(checkpoint);
      System.err.printf("going on after step %,d%n", run.steps().size());
    }
    Device device = run.model().device();
    long start = System.nanoTime();
    int done = run.steps().size();
    long[] figures = {0, used(device)}; // tokens through the model, bytes at most
    try (ProgressBar bar = new ProgressBar("tune", setting.steps() - done)) {
      run.run(
          step -> {
            figures[0] += step.rows();
            figures[1] = Math.max(figures[1], used(device));
            int made = step.step() - done;
            int left = setting.steps() - step.step();
            bar.at(
                made,
                seconds ->
                    "loss %.4f, %,.0f tokens/s, %,.0f s left"
                        .formatted(step.loss(), figures[0] / seconds, seconds / made * left));
            if (saveSteps != null && step.step() % saveSteps == 0) {
              run.save(checkpoint);
            }
          });
    }
    double seconds = (System.nanoTime() - start) / 1e9;
    System.err.printf(
        "loss %.4f to %.4f, %,.0f tokens/s%n",
        run.steps().getFirst().loss(), run.steps().getLast().loss(), figures[0] / seconds);
    return Json.object(
        "steps",
        run.steps().stream().map(TuneCommand::document).toList(),
        "tokens_per_second",
        figures[0] / seconds,
        "peak_bytes",
        figures[1]);
  }

  /** The learning rate; of vectors by default LoFiT's. */
  private double rate() {
    if (learningRate != null) {
      return learningRate;
    }
    return switch (tuned.train) {
      case "scale" -> 5e-3;
      case "bias" -> 1e-2;
      default -> 2e-5;
    };
  }

  private boolean scalesHeads() {
    return tuned.isOfWeights() && !"none".equals(gradScale);
  }

  private void check() {
    if (gradScale != null) {
      OptionValue.requireOneOf("--grad-scale", gradScale, "none", "heads");
    }
    if (!tuned.isOfWeights() && (gradScale != null || adapter != null)) {
      throw new WrongUseException(
          "--train %s leaves all weights alone: %s is of weights"
              .formatted(tuned.train, gradScale != null ? "--grad-scale" : "--adapter"));
    }
    if (options.context != 0) {
      throw new WrongUseException("--context: halter tune takes lines of up to --max-seq-len");
    }
    if (epochs != null && maxSteps != null) {
      throw new WrongUseException("--epochs and --max-steps both say when to end: give one");
    }
    OptionValue.requireAtLeastOne("--epochs", epochs);
    OptionValue.requireAtLeastOne("--max-steps", maxSteps);
    OptionValue.requireAtLeastOne("--batch-size", batchSize);
    OptionValue.requireAtLeastOne("--max-seq-len", maxSeqLen);
    OptionValue.requireAtLeastOne("--pass-tokens", passTokens);
    OptionValue.requireAtLeastOne("--save-steps", saveSteps);
    OptionValue.requireAtLeastOne("--cache-prefix", cachePrefix);
    if (recompute != null && recompute < 0) {
      throw new WrongUseException("--recompute is %d, must be 0 or more".formatted(recompute));
    }
    requireNotNegative("--learning-rate", rate());
    requireNotNegative("--weight-decay", weightDecay);
    requireNotNegative("--max-grad-norm", maxGradNorm);
    if (!(warmupRatio >= 0 && warmupRatio <= 1)) {
      throw new WrongUseException("--warmup-ratio is %s, must be 0 to 1".formatted(warmupRatio));
    }
    requireNew("--out", out);
    OptionValue.requirePicture("--curve", curve);
    if (curve != null) {
      Destination.check(curve);
    }
    if (adapter != null) {
      requireNew("--adapter", adapter);
      if (out.toAbsolutePath().normalize().equals(adapter.toAbsolutePath().normalize())) {
        throw new WrongUseException("--out and --adapter are the same folder, " + out);
      }
    }
  }

  private static void requireNew(String option, Path folder) {
    if (Files.exists(folder)) {
      throw new WrongUseException(option + " " + folder + " exists already: name a new folder");
    }
    Destination.checkFolder(folder);
  }

  private static void requireNotNegative(String option, double value) {
    if (!(value >= 0) || Double.isInfinite(value)) {
      throw new WrongUseException(option + " is " + value + ", must be 0 or more");
    }
  }

  /** Of a card's memory all that is taken, of the machine's what this process holds. */
  private static long used(Device device) {
    Device.Memory memory = device.memory();
    return memory.own() > 0 ? memory.own() : memory.total() - memory.free();
  }

  private static Map<String, Object> document(TuningRun.Step step) {
    return Json.object(
        "step", step.step(),
        "loss", step.loss(),
        "grad_norm", step.gradNorm(),
        "learning_rate", step.learningRate(),
        "tokens", step.tokens());
  }

  private static TuningRun.Evaluation evaluate(String when, TuningRun run) {
    TuningRun.Evaluation known = run.evaluate();
    System.err.printf(
        "held out, %s: loss %.4f, tokens right %.1f%%, completions right %.1f%%%n",
        when, known.loss(), 100 * known.accuracy(), 100 * known.exact());
    return known;
  }

  private static Map<String, Object> document(TuningRun.Evaluation known) {
    return Json.object("loss", known.loss(), "accuracy", known.accuracy(), "exact", known.exact());
  }

  private static void delete(Path file) {
    try {
      Files.deleteIfExists(file);
    } catch (IOException e) {
      throw Destination.unwritable(file, e);
    }
  }

  /** What it takes to do the same again. */
  private Map<String, Object> note(
      TuningRun run, TuningRun.Setting setting, TuningData texts, Map<String, Object> result) {
    Map<String, Object> note =
        Json.object(
            "model", options.folder().toString(),
            "fingerprint", run.model().fingerprint(),
            "data", data.toString(),
            "data_sha256", texts.digest(),
            "lines", texts.size());
    note.putAll(tuned.document());
    note.putAll(
        Json.object(
            "learning_rate", setting.learningRate(),
            "batch_size", setting.batchSize(),
            "max_steps", setting.steps(),
            "lr_scheduler", scheduler,
            "warmup_ratio", setting.warmupRatio(),
            "weight_decay", setting.weightDecay(),
            "max_grad_norm", setting.maxGradNorm(),
            "grad_scale", scalesHeads() ? "heads" : "none",
            "pass_tokens", run.model().limits().rows(),
            "seed", setting.seed(),
            "dtype", run.model().type().name().toLowerCase(Locale.ROOT),
            "device", run.model().device().description(),
            "steps", result.get("steps")));
    if (evalData != null) {
      note.put("eval_data", evalData.toString());
      note.put("eval", result.get("eval"));
    }
    return note;
  }
}
