package dev.halter.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import dev.halter.device.DType;
import dev.halter.device.Device;
import dev.halter.device.Graph;
import dev.halter.device.cuda.TestCuda;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** When decode steps run as they are, are recorded and are launched, and that it is all one. */
class StepGraphsTest {
  private static final Path MODEL = Path.of("src/test/resources/goldens/llama3/model");
  private static final int VOCABULARY = 128;
  private static final int HEADS = 6;

  private int recorded;
  private int launched;
  private int closed;

  /** A device that counts what is done with its graphs. */
  private Device counting(Device device) {
    return (Device)
        Proxy.newProxyInstance(
            Device.class.getClassLoader(),
            new Class<?>[] {Device.class},
            (proxy, method, arguments) -> {
              try {
                Object result = method.invoke(device, arguments);
                return method.getName().equals("record") ? counting((Graph) result) : result;
              } catch (InvocationTargetException e) {
                throw e.getCause();
              }
            });
  }

  private Graph counting(Graph graph) {
    recorded++;
    return new Graph() {
      @Override
      public void launch() {
        launched++;
        graph.launch();
      }

      @Override
      public void close() {
        closed++;
        graph.close();
      }
    };
  }

  private void assertCounts(int recorded, int launched, int closed) {
    assertEquals(
        List.of(recorded, launched, closed), List.of(this.recorded, this.launched, this.closed));
  }

  /** The same step of that many equal sequences, again and again. */
  private static float[] decode(Llama model, int[] sequences, SteeringTable steering) {
    return decode(model, sequences, steering, steering == null ? 0 : 1);
  }

  private static float[] decode(Llama model, int[] sequences, SteeringTable steering, int slot) {
    Batch batch = new Batch();
    for (int sequence : sequences) {
      batch.add(sequence, 3, new int[] {7}, new int[] {slot}, 0);
    }
    return model.forward(batch, steering).toFloats(sequences.length * VOCABULARY);
  }

  private static int[] prefill(Llama model, int count) {
    int[] sequences = new int[count];
    for (int i = 0; i < count; i++) {
      sequences[i] = model.cache().open();
      model.cache().reserve(sequences[i], 4);
      Batch prompt = new Batch();
      prompt.add(sequences[i], 0, new int[] {5, 9, 11}, new int[3], 3);
      model.forward(prompt, null);
    }
    return sequences;
  }

  @Test
  void firstStepRunsAsItIsAndTheSecondIsRecorded() {
    try (Device device = counting(TestCuda.open());
        Llama model = Llama.load(MODEL, device, DType.F32, new Llama.Limits(16, 4, 4, 4, 64));
        SteeringTable heads =
            new SteeringTable(
                device,
                List.of(List.of(new Edit.Heads(new Site(Site.Kind.Z, 1), new int[] {0, 3}, 0.5f))),
                HEADS)) {
      int[] three = prefill(model, 3);
      int[] one = {three[0]};
      assertCounts(0, 0, 0);

      float[] expected = decode(model, three, null);
      assertCounts(0, 0, 0);
      assertArrayEquals(expected, decode(model, three, null));
      assertCounts(1, 1, 0);
      assertArrayEquals(expected, decode(model, three, null));
      assertCounts(1, 2, 0);

      decode(model, one, null); // another number of rows is another step
      assertCounts(1, 2, 0);

      float[] steered = decode(model, one, heads); // whose wider report moves a buffer
      assertCounts(1, 2, 1);
      assertArrayEquals(steered, decode(model, one, heads));
      assertArrayEquals(steered, decode(model, one, heads));
      assertCounts(2, 4, 1);
      decode(model, one, null);
      assertArrayEquals(expected, decode(model, three, null));
      assertCounts(2, 4, 1);

      model.forget(heads);
      assertCounts(2, 4, 2);
      assertArrayEquals(steered, decode(model, one, heads));
      assertCounts(2, 4, 2);
      decode(model, one, null); // not forgotten
      assertCounts(3, 5, 2);
      model.forget(heads);
    }
    assertCounts(3, 5, 3);
  }

  private static List<Edit> heads(float scale, int... heads) {
    return List.of(new Edit.Heads(new Site(Site.Kind.Z, 1), heads, scale));
  }

  @Test
  void recordedStepsOutliveSlotsThatComeAndGo() {
    try (Device device = counting(TestCuda.open());
        Llama model = Llama.load(MODEL, device, DType.F32, new Llama.Limits(16, 4, 4, 4, 64));
        SteeringTable table = new SteeringTable(device, List.of(heads(0.5f, 0, 3)), HEADS);
        SteeringTable alone = new SteeringTable(device, List.of(heads(-4, 1)), HEADS)) {
      int[] one = prefill(model, 1);
      float[] expected = decode(model, one, alone);
      float[] first = decode(model, one, table);
      assertArrayEquals(first, decode(model, one, table));
      assertCounts(1, 1, 0);

      int second = table.add(heads(-4, 1));
      assertFalse(Arrays.equals(first, expected));
      assertArrayEquals(expected, decode(model, one, table, second));
      assertArrayEquals(first, decode(model, one, table));
      assertCounts(1, 3, 0);

      table.remove(second);
      assertEquals(second, table.add(heads(0, 5)), "the number of the slot that has gone");
      assertFalse(Arrays.equals(expected, decode(model, one, table, second)));
      assertCounts(1, 4, 0);

      for (int i = 0; i < 100; i++) {
        table.add(heads(i, 2)); // more than there is room for: the tables move
      }
      assertArrayEquals(first, decode(model, one, table));
      assertCounts(1, 4, 1);
      assertArrayEquals(first, decode(model, one, table));
      assertCounts(2, 5, 1);

      table.add(List.of(new Edit.Heads(new Site(Site.Kind.Z, 0), new int[] {0}, 0)));
      assertArrayEquals(first, decode(model, one, table)); // a site more
      assertCounts(2, 5, 2);
      model.forget(table);
      model.forget(alone);
    }
  }
}
