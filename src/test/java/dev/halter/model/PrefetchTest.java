package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Buffer;
import dev.halter.device.CallRecorder;
import dev.halter.device.CallRecorder.Call;
import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Grid;
import dev.halter.device.LaunchRecorder;
import dev.halter.device.Matrix;
import dev.halter.device.cpu.CpuDevice;
import dev.halter.device.cpu.Schedule;
import dev.halter.device.cuda.TestCuda;
import dev.halter.weights.ModelConfig;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** What kernels ask into the L2 cache: what the next product reads, of which no bit shows. */
class PrefetchTest {
  private static final Path MODEL = Path.of("src/test/resources/goldens/llama3/model");
  private static final int LAYERS = 3;

  /** Three blocks, whose weights have 50, 34, 235 and 117 MB; the head has 1,051. */
  private static final ModelConfig CONFIG = Weightless.llama8b(LAYERS);

  @AfterEach
  void forgetSettings() {
    System.clearProperty("halter.prefetch");
    System.clearProperty("halter.few_rows");
  }

  /** What one call asks for, and which weights it multiplies by; either may be null. */
  private record Step(String name, Buffer weights, Buffer next, int bytes) {
    static Step of(Call call) {
      List<Object> arguments = call.arguments();
      Buffer weights =
          switch (call.name()) {
            case "product" -> (Buffer) arguments.getFirst();
            case "multiply_few_add_bf16" -> (Buffer) arguments.get(2);
            case "multiply_few_bf16", "multiply_few_gate_bf16", "multiply_few_rope_bf16" ->
                (Buffer) arguments.get(4);
            default -> null;
          };
      boolean asks =
          call.name().startsWith("multiply_few")
              || call.name().startsWith("add_rmsnorm")
              || call.name().startsWith("attention_split")
              || call.name().equals("gated_mlp_bf16");
      int end = arguments.size();
      return new Step(
          call.name(),
          weights,
          asks ? (Buffer) arguments.get(end - 2) : null,
          asks ? (int) arguments.get(end - 1) : 0);
    }
  }

  /**
   * Every product's weights are what was asked for last before it, whatever acts between.
   *
   * @param megabytes asked for
   * @return the kernels that asked, in order
   */
  private static List<String> asked(List<Call> calls, int megabytes) {
    List<String> names = new ArrayList<>();
    Buffer next = null;
    for (Step step : calls.stream().map(Step::of).toList()) {
      if (step.weights != null && next != null) {
        assertEquals(next.address(), step.weights.address(), step.name);
        assertTrue(next.bytes() <= step.weights.bytes(), step.name);
        next = null;
      }
      if (step.next != null) {
        assertNull(next, step.name + " asks for what is asked for already");
        next = step.next;
        names.add(step.name);
        assertEquals(next.bytes(), step.bytes);
        assertTrue(step.bytes <= megabytes << 20 && step.bytes % 16 == 0);
      } else {
        assertEquals(0, step.bytes, step.name);
      }
    }
    assertNull(next, "nobody multiplies by what was asked for last");
    return names;
  }

  /** What a step of decode after 1,023 tokens asks for, with these edits and this hook. */
  private static List<String> asked(int rows, int megabytes, List<Edit> edits, SiteHook hook) {
    System.setProperty("halter.prefetch", "" + megabytes);
    Llama.Limits limits = new Llama.Limits(rows, rows, rows, 16 * rows, 1024);
    try (Arena arena = Arena.ofConfined();
        CallRecorder device = new CallRecorder(new LaunchRecorder(TestCuda.open(), 132));
        Llama model =
            new Llama(device, CONFIG, Weightless.weights(CONFIG, arena), DType.BF16, limits);
        SteeringTable steering = new SteeringTable(device, List.of(edits), 32)) {
      Batch batch = new Batch();
      for (int i = 0; i < rows; i++) {
        int sequence = model.cache().open();
        model.cache().reserve(sequence, 1024);
        batch.add(sequence, 1023, new int[] {1}, new int[] {edits.isEmpty() ? 0 : 1}, 0);
      }
      device.calls(); // those of the checks at the start
      model.forward(batch, edits.isEmpty() ? null : steering, hook);
      return asked(device.calls(), megabytes);
    }
  }

  private static SiteHook at(Site site) {
    return new SiteHook() {
      @Override
      public boolean wants(Site other) {
        return other.equals(site);
      }

      @Override
      public void at(Site other, Matrix values) {}
    };
  }

  private static List<String> repeated(String... names) {
    List<String> all = new ArrayList<>();
    for (int i = 0; i < LAYERS; i++) {
      all.addAll(List.of(names));
    }
    return all;
  }

  @Test
  void productsOfOneRowAskForTheNextOne() {
    for (int megabytes : new int[] {1, 16, 512}) {
      assertEquals(
          repeated(
              "multiply_few_rope_bf16",
              "multiply_few_add_bf16",
              "multiply_few_gate_bf16",
              "multiply_few_add_bf16"),
          asked(1, megabytes, List.of(), null));
    }
    assertEquals(List.of(), asked(1, 0, List.of(), null));
  }

  @Test
  void whatStandsBetweenProductsOfManyRowsAsks() {
    List<String> block =
        repeated(
            "attention_split_sm80_128", "add_rmsnorm_bf16", "gated_mlp_bf16", "add_rmsnorm_bf16");
    List<String> butLast = block.subList(0, block.size() - 1); // which no norm follows
    assertEquals(butLast, asked(32, 16, List.of(), null));
    System.setProperty("halter.few_rows", "cublas");
    assertEquals(butLast, asked(1, 16, List.of(), null));
  }

  /** Where something acts between, other kernels run; what they ask for is checked by the call. */
  @Test
  void whatActsBetweenProductsChangesNotWhatComesNext() {
    float[] vector = new float[CONFIG.dModel()];
    vector[3] = 1;
    List<Edit> edits =
        List.of(
            Edit.clamp(new Site(Site.Kind.POST, 1), 5, 2),
            new Edit.Heads(new Site(Site.Kind.Z, 0), new int[] {2}, 0.5f),
            new Edit.Add(new Site(Site.Kind.RESID_PRE, 1), vector, 1),
            new Edit.Add(new Site(Site.Kind.RESID_POST, 1), vector, 1),
            new Edit.Add(new Site(Site.Kind.ATTN_OUT, 2), vector, 1));
    for (int rows : new int[] {1, 32}) {
      for (Edit edit : edits) {
        assertTrue(asked(rows, 16, List.of(edit), null).size() >= 4 * LAYERS - 2);
      }
      assertTrue(asked(rows, 16, edits, null).size() >= 4 * LAYERS - 2);
      for (Site.Kind kind :
          List.of(
              Site.Kind.RESID_PRE,
              Site.Kind.LN1_NORMALIZED,
              Site.Kind.Q,
              Site.Kind.ROT_K,
              Site.Kind.Z,
              Site.Kind.ATTN_OUT,
              Site.Kind.RESID_MID,
              Site.Kind.PRE,
              Site.Kind.POST,
              Site.Kind.MLP_OUT,
              Site.Kind.RESID_POST)) {
        List<String> names = asked(rows, 16, List.of(), at(new Site(kind, 1)));
        // A residual add whose norm comes apart, for a hook, asks for nothing.
        assertTrue(names.size() >= 2 * LAYERS, rows + " " + kind + ": " + names);
      }
    }
  }

  @Test
  void promptsAskForNothing() {
    System.setProperty("halter.prefetch", "16");
    Llama.Limits limits = new Llama.Limits(8, 1, 1, 1, 64);
    try (Arena arena = Arena.ofConfined();
        CallRecorder device = new CallRecorder(new LaunchRecorder(TestCuda.open(), 132));
        Llama model =
            new Llama(device, CONFIG, Weightless.weights(CONFIG, arena), DType.BF16, limits)) {
      int sequence = model.cache().open();
      model.cache().reserve(sequence, 8);
      Batch batch = new Batch();
      batch.add(sequence, 0, new int[8], new int[8], 7);
      device.calls();
      model.forward(batch, null);
      assertEquals(List.of(), asked(device.calls(), 16));
    }
  }

  @Test
  void noBitOfItShows() {
    for (String few : List.of("auto", "cublas", "own")) {
      System.setProperty("halter.few_rows", few);
      for (int rows : new int[] {1, 3}) {
        float[] without = logits("off", rows);
        for (String setting : List.of("1", "o=1,down=1", "own=1,qkv=1")) {
          assertArrayEquals(without, logits(setting, rows), setting);
        }
      }
    }
  }

  /** Of the fourth step, which is a recorded one. */
  private static float[] logits(String setting, int rows) {
    System.setProperty("halter.prefetch", setting);
    try (Device cuda = TestCuda.open();
        Llama model =
            Llama.load(MODEL, cuda, DType.BF16, new Llama.Limits(rows, rows, rows, 2 * rows, 8))) {
      int[] sequences = new int[rows];
      for (int i = 0; i < rows; i++) {
        sequences[i] = model.cache().open();
        model.cache().reserve(sequences[i], 8);
      }
      for (int position = 0; ; position++) {
        Batch batch = new Batch();
        for (int i = 0; i < rows; i++) {
          batch.add(sequences[i], position, new int[] {3 + 5 * position + i}, new int[1], 0);
        }
        Buffer logits = model.forward(batch, null);
        if (position == 3) {
          return logits.toFloats(rows * model.config().vocabularySize());
        }
      }
    }
  }

  @Test
  void settingsAreForDevicesWithACacheForThem() {
    try (Device cuda = TestCuda.open();
        Device cpu = CpuDevice.open(2);
        Llama model = Llama.load(MODEL, cuda, DType.BF16, new Llama.Limits(1, 1, 1, 1, 8))) {
      LlamaWeights weights = model.weights();
      Prefetch some = Prefetch.of(cuda, weights, LAYERS, "o=1,own=4");
      assertNotNull(some.o(0));
      assertNull(some.down(0));
      assertEquals(4096, some.ownBytes());
      assertEquals(
          List.of("weights of the next product to the L2 cache, MB: o=1,own=4 (-Dhalter.prefetch)"),
          some.details());
      Prefetch all = Prefetch.of(cuda, weights, LAYERS, "1");
      assertEquals(weights.head().weight().address(), all.qkv(LAYERS).address());
      assertNull(all.nothing().qkv(LAYERS));
      Prefetch none = Prefetch.of(cpu, weights, LAYERS, "1");
      assertNull(none.o(0));
      assertEquals(List.of(), none.details());
      for (String wrong : List.of("", "-1", "1.5", "1000", "o", "o=", "v=1", "o=1,", "16,o=1")) {
        String message =
            assertThrows(IllegalArgumentException.class, () -> Prefetch.of(cuda, weights, 3, wrong))
                .getMessage();
        assertEquals(
            "-Dhalter.prefetch="
                + wrong
                + ": choose auto, off, megabytes, or those of some of qkv, kv, o, gate_up, down, head,"
                + " as o=32,down=16",
            message);
      }
    }
  }

  /** The faithful build says what a GPU would refuse. */
  @Test
  void whatAGpuWouldRefuseIsSaid() {
    try (Device device = CpuDevice.openFaithful(Schedule.FORWARD, 1);
        Buffer numbers = device.allocate(4 * 64);
        Buffer out = device.allocate(4 * 32)) {
      numbers.clear();
      Buffer up = numbers.slice(4 * 32);
      Buffer next = numbers.slice(4); // not at a multiple of 16
      assertThrows(
          DeviceException.class,
          () ->
              device.launch(
                  device.kernel("gated_mlp_f32"),
                  Grid.of(1),
                  32,
                  0,
                  out,
                  numbers,
                  up,
                  null,
                  null,
                  32,
                  64L,
                  next,
                  16));
    }
  }
}
