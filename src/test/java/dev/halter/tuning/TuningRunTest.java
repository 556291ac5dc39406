package dev.halter.tuning;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.ScarceDevice;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.files.BadFileException;
import dev.halter.files.JsonObject;
import dev.halter.generation.LanguageModel;
import dev.halter.model.Head;
import dev.halter.scoring.Logits;
import dev.halter.steering.SteeringPlan;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.Safetensors;
import dev.halter.weights.TensorView;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Whole runs against torch's (tools/goldens/tuning.py), and what they leave behind. */
class TuningRunTest {
  private static final Path GOLDENS = Path.of("src/test/resources/goldens");

  private static TuningData examples(JsonObject json) {
    return new TuningData(
        json.objects("sequences").stream()
            .map(
                text -> {
                  List<Integer> prompt = text.integers("prompt_tokens");
                  int[] tokens =
                      Stream.of(prompt, text.integers("completion_tokens"))
                          .flatMap(List::stream)
                          .mapToInt(token -> token)
                          .toArray();
                  return new Example(tokens, prompt.size());
                })
            .toList());
  }

  private static Selection selection(JsonObject json, ModelConfig config) {
    List<Head> heads = json.texts("heads").stream().map(name -> Head.parse(name, config)).toList();
    return new Selection(config, heads, json.integers("mlps"), Selection.ALL_PARTS);
  }

  /** The same model from a file in f32, which 20 steps do not round. */
  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#forModels")
  void twentyStepsFollowTorch(Device device) {
    JsonObject json = JsonObject.read(GOLDENS.resolve("llama-bias/tuning.json"));
    JsonObject options = json.object("setting");
    Path folder = GOLDENS.resolve("llama-bias/model");
    TuningData texts = examples(json);
    TuningRun.Setting setting =
        new TuningRun.Setting(
            options.number("learning_rate", 0, 1),
            texts.size(),
            options.integer("steps", 1, 100),
            RateSchedule.valueOf(options.text("lr_scheduler").toUpperCase(Locale.ROOT)),
            options.number("warmup_ratio", 0, 1),
            options.number("weight_decay", 0, 1),
            options.number("max_grad_norm", 0, 10),
            true,
            37, // so that a step has several passes
            3);
    List<TuningRun.Step> steps = new ArrayList<>();
    Selection selection = selection(json, ModelConfig.read(folder));
    try (TuningRun run = new TuningRun(device, folder, selection, texts, null, setting)) {
      assertTrue(
          run.model().limits().rows() < texts.examples().stream().mapToInt(Example::rows).sum());
      run.run(steps::add);
    }
    List<JsonObject> expected = json.objects("steps");
    assertEquals(expected.size(), steps.size());
    for (int i = 0; i < steps.size(); i++) {
      double loss = expected.get(i).number("loss", 0, 100);
      double norm = expected.get(i).number("grad_norm", 0, 100);
      TuningRun.Step step = steps.get(i);
      assertEquals(loss, step.loss(), 1e-4 * loss, "loss of step " + step.step());
      assertEquals(norm, step.gradNorm(), 1e-4 * norm, "norm of step " + step.step());
      assertEquals(expected.get(i).number("learning_rate", 0, 1), step.learningRate(), 1e-9);
    }
  }

  private static TuningRun.Setting setting(double learningRate) {
    return new TuningRun.Setting(learningRate, 2, 5, RateSchedule.CONSTANT, 0, 0.1, 0, true, 0, 7);
  }

  /** Tunes a model of the goldens and writes it. */
  private static Path tune(String name, Path to, double learningRate, int threads) {
    JsonObject json = JsonObject.read(GOLDENS.resolve(name).resolve("gradients.json"));
    Path folder = GOLDENS.resolve(name).resolve("model");
    Selection selection = selection(json, ModelConfig.read(folder));
    try (Device device = CpuDevice.open(threads);
        TuningRun run =
            new TuningRun(device, folder, selection, examples(json), null, setting(learningRate))) {
      run.run(step -> {});
      run.write(to, "{}");
    }
    return to;
  }

  private static Set<String> files(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      Set<String> names = new TreeSet<>();
      files.forEach(file -> names.add(file.getFileName().toString()));
      names.remove("tune.json");
      return names;
    }
  }

  private static void assertSameFiles(Path a, Path b) throws IOException {
    assertEquals(files(a), files(b));
    for (String name : files(a)) {
      assertArrayEquals(
          Files.readAllBytes(a.resolve(name)), Files.readAllBytes(b.resolve(name)), name);
    }
  }

  @Test
  void withoutALearningRateTheFolderIsTheSameToTheByte(@TempDir Path folder) throws IOException {
    for (String name : List.of("llama-bias", "mistral", "qwen2")) { // the last two are bf16
      Path model = GOLDENS.resolve(name).resolve("model");
      assertSameFiles(model, tune(name, folder.resolve(name), 0, 2));
      assertTrue(Files.exists(folder.resolve(name).resolve("tune.json")));
    }
  }

  @Test
  void theSameRunGivesTheSameBytesOnAnyNumberOfThreads(@TempDir Path folder) throws IOException {
    Path once = tune("mistral", folder.resolve("once"), 0.01, 2);
    assertSameFiles(once, tune("mistral", folder.resolve("again"), 0.01, 2));
    assertSameFiles(once, tune("mistral", folder.resolve("alone"), 0.01, 1));
  }

  /** Memory is saved in every way, and nothing else is another. */
  @ParameterizedTest
  @ValueSource(strings = {"llama3", "llama-bias", "qwen3"})
  void whatIsMadeAgainOrOnlyOnceChangesNoByte(String name, @TempDir Path folder)
      throws IOException {
    JsonObject json = JsonObject.read(GOLDENS.resolve(name).resolve("gradients.json"));
    Path model = GOLDENS.resolve(name).resolve("model");
    Selection selection = selection(json, ModelConfig.read(model));
    int layers = ModelConfig.read(model).nLayers() - selection.lowestLayer();
    Path plain = tune(name, folder.resolve("plain"), 0.01, 2);
    long kept = Long.MAX_VALUE;
    for (int recomputed = 2; recomputed <= layers; recomputed++) {
      for (long prefixes : new long[] {0, 5_000, 1 << 20}) { // none, some, all
        if (prefixes > 0 && selection.lowestLayer() == 0) {
          continue;
        }
        Path to = folder.resolve(recomputed + "." + prefixes);
        TuningRun.Means means = new TuningRun.Means(recomputed, prefixes);
        try (Device device = CpuDevice.open(2);
            TuningRun run =
                new TuningRun(
                    device, model, selection, examples(json), null, setting(0.01), means)) {
          assertEquals(recomputed, run.memory().recomputed());
          assertTrue(prefixes == 0 || run.memory().prefixes() > 0);
          assertTrue(run.memory().prefixes() <= prefixes);
          if (prefixes == 0) {
            assertTrue(run.memory().kept() < kept);
            kept = run.memory().kept();
          }
          run.run(step -> {});
          run.write(to, "{}");
        }
        assertSameFiles(plain, to);
      }
    }
  }

  /** The bytes planned are those that are allocated beside the model. */
  @Test
  void memoryIsPlannedAsItIsTaken() {
    JsonObject json = JsonObject.read(GOLDENS.resolve("llama3/gradients.json"));
    Path model = GOLDENS.resolve("llama3/model");
    Selection selection = selection(json, ModelConfig.read(model));
    try (ScarceDevice device = new ScarceDevice(CpuDevice.open(2))) {
      long loaded;
      try (TuningRun run =
          new TuningRun(device, model, selection, examples(json), null, setting(0.01))) {
        assertEquals(0, run.memory().recomputed());
        loaded = device.bytes() - run.memory().added();
      }
      TuningRun.Means means = new TuningRun.Means(2, 1 << 20);
      try (TuningRun run =
          new TuningRun(device, model, selection, examples(json), null, setting(0.01), means)) {
        assertEquals(loaded + run.memory().added(), device.bytes());
      }
      device.assertNothingLeaks(
          () ->
              new TuningRun(device, model, selection, examples(json), null, setting(0.01), means)
                  .close());
    }
  }

  /** A little less memory than all takes has layers made again, much less is an error. */
  @Test
  void whatIsKeptFollowsTheMemory() {
    JsonObject json = JsonObject.read(GOLDENS.resolve("llama3/gradients.json"));
    Path model = GOLDENS.resolve("llama3/model");
    Selection selection = selection(json, ModelConfig.read(model));
    try (ScarceDevice device = new ScarceDevice(CpuDevice.open(2))) {
      long all;
      try (TuningRun run =
          new TuningRun(device, model, selection, examples(json), null, setting(0.01))) {
        all = run.memory().added() + run.memory().model().weights();
        assertFalse(run.memory().toString().contains("made again"));
      }
      device.claimFree((long) (all / 0.9) - 100);
      try (TuningRun run =
          new TuningRun(device, model, selection, examples(json), null, setting(0.01))) {
        assertEquals(2, run.memory().recomputed());
        assertTrue(run.memory().toString().contains("layer 1 made again"), run.memory() + "");
      }
      device.claimFree(all / 2);
      int before = device.buffers();
      String message =
          assertThrows(
                  DeviceException.class,
                  () ->
                      new TuningRun(device, model, selection, examples(json), null, setting(0.01)))
              .getMessage();
      assertTrue(message.contains("choose a smaller --pass-tokens"), message);
      assertEquals(before, device.buffers());
    }
  }

  @Test
  void asFewLayersAreMadeAgainAsNeedBe() {
    long[] bytes = {100, 100, 80, 60};
    assertEquals(0, TuningMemory.fewest(3, count -> bytes[count], 100));
    assertEquals(2, TuningMemory.fewest(3, count -> bytes[count], 99));
    assertEquals(3, TuningMemory.fewest(3, count -> bytes[count], 79));
    assertEquals(-1, TuningMemory.fewest(3, count -> bytes[count], 59));
  }

  /** A run that ends after some steps goes on from its checkpoint to the very same end. */
  @Test
  void resumedIsUnbroken(@TempDir Path folder) throws IOException {
    for (String name : List.of("llama-bias", "mistral")) { // the second is bf16
      Path whole = tune(name, folder.resolve(name), 0.01, 2);
      JsonObject json = JsonObject.read(GOLDENS.resolve(name).resolve("gradients.json"));
      Path model = GOLDENS.resolve(name).resolve("model");
      Selection selection = selection(json, ModelConfig.read(model));
      Path file = folder.resolve(name + ".checkpoint");
      Path resumed = folder.resolve(name + ".resumed");
      List<TuningRun.Step> steps = new ArrayList<>();
      try (Device device = CpuDevice.open(2)) {
        try (TuningRun run =
            new TuningRun(device, model, selection, examples(json), null, setting(0.01))) {
          run.run(
              step -> {
                steps.add(step);
                if (step.step() == 3) { // in the second epoch
                  run.save(file);
                }
              });
        }
        try (TuningRun run =
            new TuningRun(device, model, selection, examples(json), null, setting(0.01))) {
          run.resume(file);
          assertEquals(steps.subList(0, 3), run.steps());
          run.run(step -> assertTrue(step.step() > 3));
          assertEquals(steps, run.steps());
          run.write(resumed, "{}");
        }
        try (TuningRun run =
            new TuningRun(device, model, selection, examples(json), null, setting(0.02))) {
          String message =
              assertThrows(BadFileException.class, () -> run.resume(file)).getMessage();
          assertTrue(message.contains("another setting"), message);
        }
      }
      assertSameFiles(whole, resumed);
    }
  }

  @Test
  void whatIsNotTunedIsTheSameToTheByte(@TempDir Path folder) throws IOException {
    String name = "llama3";
    Path tuned = tune(name, folder.resolve("tuned"), 0.01, 2);
    Path model = GOLDENS.resolve(name).resolve("model");
    ModelConfig config = ModelConfig.read(model);
    JsonObject json = JsonObject.read(GOLDENS.resolve(name).resolve("gradients.json"));
    Selection selection = selection(json, config);
    try (Safetensors before = Safetensors.open(model.resolve("model.safetensors"));
        Safetensors after = Safetensors.open(tuned.resolve("model.safetensors"))) {
      for (String tensor : before.names()) {
        TensorView was = before.tensor(tensor);
        TensorView is = after.tensor(tensor);
        int width = (int) was.size(was.shape().length - 1);
        List<Slice> slices =
            selection.slices().stream().filter(slice -> slice.tensor().equals(tensor)).toList();
        int moved = 0;
        for (int i = 0; i < was.elements(); i++) {
          int row = i / width;
          int column = i % width;
          boolean same =
              was.data().getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, i)
                  == is.data().getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, i);
          boolean chosen =
              slices.stream()
                  .anyMatch(
                      slice ->
                          row >= slice.row()
                              && row < slice.row() + slice.rows()
                              && column >= slice.column()
                              && column < slice.column() + slice.columns());
          assertTrue(same || chosen, tensor + " at " + i);
          moved += same ? 0 : 1;
        }
        long elements = slices.stream().mapToLong(Slice::elements).sum();
        assertTrue(moved >= elements / 2, tensor + ": moved " + moved + " of " + elements);
      }
    }
  }

  /**
   * Without a learning rate the held-out texts are known as the steps say, also in small passes.
   */
  @Test
  void heldOutTextsAreMeasuredAsTheModelIs() {
    JsonObject json = JsonObject.read(GOLDENS.resolve("llama-bias/gradients.json"));
    double loss = json.number("loss", 0, 100);
    Path folder = GOLDENS.resolve("llama-bias/model");
    Selection selection = selection(json, ModelConfig.read(folder));
    TuningData texts = examples(json);
    try (Device device = CpuDevice.open(2)) {
      TuningRun.Setting setting =
          new TuningRun.Setting(0.01, 2, 60, RateSchedule.CONSTANT, 0, 0, 1, true, 20, 7);
      try (TuningRun run = new TuningRun(device, folder, selection, texts, texts, setting)) {
        TuningRun.Evaluation before = run.evaluate();
        assertEquals(loss, before.loss(), 1e-5 * loss);
        assertTrue(before.accuracy() < 0.2, before.toString());
        assertEquals(0, before.exact());
        run.run(step -> {});
        TuningRun.Evaluation after = run.evaluate();
        assertTrue(after.loss() < 0.1, after.toString());
        assertEquals(1, after.accuracy());
        assertEquals(1, after.exact());
      }
    }
  }

  /** A selection of vectors of the golden's heads. */
  private static Selection vectors(String name, HeadVector kind) {
    ModelConfig config = ModelConfig.read(GOLDENS.resolve(name).resolve("model"));
    JsonObject json = JsonObject.read(GOLDENS.resolve(name).resolve("gradients.json"));
    List<Head> heads = json.texts("heads").stream().map(h -> Head.parse(h, config)).toList();
    return new Selection(config, heads, kind);
  }

  private static LanguageModel language(Path model) {
    return LanguageModel.at(model).device(CpuDevice.open(2)).dtype("f32").open();
  }

  @ParameterizedTest
  @EnumSource(HeadVector.class)
  void vectorsOfHeadsComeOutAsAPlanThatDoesTheSame(HeadVector kind, @TempDir Path folder) {
    String name = "llama-bias";
    Path model = GOLDENS.resolve(name).resolve("model");
    Selection selection = vectors(name, kind);
    TuningData texts = examples(JsonObject.read(GOLDENS.resolve(name).resolve("gradients.json")));
    TuningRun.Setting setting =
        new TuningRun.Setting(0.1, 2, 40, RateSchedule.CONSTANT, 0, 0, 1, true, 20, 7);
    Path out = folder.resolve("tuned");
    TuningRun.Evaluation before;
    TuningRun.Evaluation after;
    try (Device device = CpuDevice.open(2);
        TuningRun run = new TuningRun(device, model, selection, texts, texts, setting)) {
      before = run.evaluate();
      run.run(step -> {});
      after = run.evaluate();
      run.write(out, "{}");
    }
    assertTrue(after.loss() < before.loss() - 0.5, before + " to " + after);
    SteeringPlan plan = SteeringPlan.read(out.resolve("plan.json"), ModelConfig.read(model));
    assertEquals("tuned", plan.name());
    assertTrue(Files.exists(out.resolve("tune.json")));
    assertEquals(after.loss(), loss(model, texts, plan), 1e-6 * after.loss());
    assertEquals(before.loss(), loss(model, texts, SteeringPlan.NONE), 1e-6 * before.loss());
  }

  /** The mean loss of completions as the engine has it under a plan. */
  private static double loss(Path model, TuningData texts, SteeringPlan plan) {
    try (LanguageModel language = language(model)) {
      return texts.examples().stream()
          .flatMapToDouble(
              text -> {
                int[] prompt = Arrays.copyOf(text.tokens(), text.prompt());
                int[] answer =
                    Arrays.copyOfRange(text.tokens(), text.prompt(), text.tokens().length);
                return Arrays.stream(
                    Logits.logProbabilities(language.engine(), prompt, answer, plan));
              })
          .map(logProbability -> -logProbability)
          .average()
          .orElseThrow();
    }
  }

  @ParameterizedTest
  @EnumSource(HeadVector.class)
  void withoutALearningRateThePlanIsTheIdentityToTheBit(HeadVector kind, @TempDir Path folder) {
    Path model = GOLDENS.resolve("mistral/model");
    TuningData texts = examples(JsonObject.read(GOLDENS.resolve("mistral/gradients.json")));
    Path out = folder.resolve("tuned");
    try (Device device = CpuDevice.open(2);
        TuningRun run =
            new TuningRun(device, model, vectors("mistral", kind), texts, null, setting(0))) {
      run.run(step -> {});
      run.write(out, "{}");
    }
    SteeringPlan plan = SteeringPlan.read(out.resolve("plan.json"), ModelConfig.read(model));
    int[] text = texts.examples().getFirst().tokens();
    try (LanguageModel language = language(model)) {
      assertArrayEquals(
          Logits.of(language.engine(), text, SteeringPlan.NONE),
          Logits.of(language.engine(), text, plan));
    }
  }

  /** As {@link #resumedIsUnbroken}, of vectors. */
  @Test
  void vectorsGoOnFromACheckpoint(@TempDir Path folder) throws IOException {
    Path model = GOLDENS.resolve("mistral/model");
    TuningData texts = examples(JsonObject.read(GOLDENS.resolve("mistral/gradients.json")));
    Selection selection = vectors("mistral", HeadVector.BIAS);
    Path file = folder.resolve("checkpoint");
    try (Device device = CpuDevice.open(2)) {
      try (TuningRun run = new TuningRun(device, model, selection, texts, null, setting(0.05))) {
        run.run(
            step -> {
              if (step.step() == 3) {
                run.save(file);
              }
            });
        run.write(folder.resolve("whole"), "{}");
      }
      try (TuningRun run = new TuningRun(device, model, selection, texts, null, setting(0.05))) {
        run.resume(file);
        run.run(step -> assertTrue(step.step() > 3));
        run.write(folder.resolve("resumed"), "{}");
      }
    }
    String maps = "heads.safetensors";
    assertEquals(
        -1, Files.mismatch(folder.resolve("whole/" + maps), folder.resolve("resumed/" + maps)));
  }

  /** W + B · A is the tuned matrix, and W where nothing is tuned. */
  @Test
  void theAdapterIsTheSameChange(@TempDir Path folder) {
    JsonObject json = JsonObject.read(GOLDENS.resolve("llama-bias/tuning.json"));
    Path base = GOLDENS.resolve("llama-bias/model");
    ModelConfig config = ModelConfig.read(base);
    List<Head> heads =
        Stream.of("0.4", "0.1", "1.0").map(name -> Head.parse(name, config)).toList();
    Selection selection = new Selection(config, heads, List.of(), Selection.ALL_PARTS);
    Path tuned = folder.resolve("tuned");
    Path adapter = folder.resolve("adapter");
    try (Device device = CpuDevice.open(2);
        TuningRun run =
            new TuningRun(device, base, selection, examples(json), null, setting(0.01))) {
      run.run(step -> {});
      run.write(tuned, "{}");
      run.writeAdapter(adapter);
    }
    JsonObject ranks =
        JsonObject.read(adapter.resolve("adapter_config.json")).object("rank_pattern");
    assertEquals(8, ranks.keys().size());
    try (Safetensors before = Safetensors.open(base.resolve("model.safetensors"));
        Safetensors after = Safetensors.open(tuned.resolve("model.safetensors"));
        Safetensors factors = Safetensors.open(adapter.resolve("adapter_model.safetensors"))) {
      for (String module : ranks.keys()) {
        String name = "base_model.model." + module;
        float[] a = factors.tensor(name + ".lora_A.weight").toFloats();
        float[] b = factors.tensor(name + ".lora_B.weight").toFloats();
        float[] was = before.tensor(module + ".weight").toFloats();
        float[] is = after.tensor(module + ".weight").toFloats();
        int rank = ranks.integer(module, 8, 16);
        int width = a.length / rank;
        assertFalse(Arrays.equals(was, is), module);
        for (int i = 0; i < was.length; i++) {
          double change = 0;
          for (int k = 0; k < rank; k++) {
            change += (double) b[i / width * rank + k] * a[k * width + i % width];
          }
          assertEquals(is[i], was[i] + change, 1e-6, module);
          assertTrue(change != 0 || is[i] == was[i], module);
        }
      }
    }
  }

  @Test
  void anAdapterThatDoesNotFitIsRefused() {
    ModelConfig config = ModelConfig.read(GOLDENS.resolve("llama3/model"));
    Selection mlp = new Selection(config, List.of(), List.of(1), Selection.ALL_PARTS);
    String message =
        assertThrows(IllegalArgumentException.class, () -> TuningRun.requireAdapter(config, mlp))
            .getMessage();
    assertTrue(message.contains("MLPs"), message);
    TuningRun.requireAdapter(
        config, new Selection(config, Head.all(config), List.of(), Selection.ALL_PARTS));
  }

  @Test
  void anotherSeedIsAnotherOrder() {
    JsonObject json = JsonObject.read(GOLDENS.resolve("mistral/gradients.json"));
    Path folder = GOLDENS.resolve("mistral/model");
    Selection selection = selection(json, ModelConfig.read(folder));
    double[][] losses = new double[2][];
    try (Device device = CpuDevice.open(2)) {
      for (int seed = 0; seed < 2; seed++) {
        TuningRun.Setting setting =
            new TuningRun.Setting(0, 1, 6, RateSchedule.CONSTANT, 0, 0, 0, true, 0, seed);
        List<Double> seen = new ArrayList<>();
        try (TuningRun run =
            new TuningRun(device, folder, selection, examples(json), null, setting)) {
          run.run(step -> seen.add(step.loss()));
        }
        losses[seed] = seen.stream().mapToDouble(loss -> loss).toArray();
        // Every text comes once in each epoch of three steps.
        assertNotEquals(losses[seed][0], losses[seed][1]);
        assertArrayEquals(
            Arrays.stream(losses[seed], 0, 3).sorted().toArray(),
            Arrays.stream(losses[seed], 3, 6).sorted().toArray());
      }
    }
    assertFalse(Arrays.equals(losses[0], losses[1]));
  }

  @Test
  void aRateThatIsFarTooHighIsSaidSo() {
    JsonObject json = JsonObject.read(GOLDENS.resolve("mistral/gradients.json"));
    Path folder = GOLDENS.resolve("mistral/model");
    Selection selection = selection(json, ModelConfig.read(folder));
    try (Device device = CpuDevice.open(2);
        TuningRun run =
            new TuningRun(device, folder, selection, examples(json), null, setting(1e30))) {
      String message =
          assertThrows(IllegalArgumentException.class, () -> run.run(step -> {})).getMessage();
      assertTrue(message.contains("lower --learning-rate"), message);
    }
  }
}
