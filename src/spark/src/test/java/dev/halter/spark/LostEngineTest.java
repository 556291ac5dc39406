package dev.halter.spark;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.halter.device.Device;
import dev.halter.device.DeviceException;
import dev.halter.device.Devices;
import dev.halter.device.Graph;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.apache.spark.TaskContext;
import org.apache.spark.TaskContext$;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;
import org.junit.jupiter.api.Test;

/** What becomes of an executor whose device is lost, with a device that is. */
class LostEngineTest {
  /** A CPU whose context is poisoned after so many launches: every call from then on fails. */
  private static Device poisoned(int launches) {
    Device cpu = Devices.open("cpu", 1, true);
    AtomicInteger left = new AtomicInteger(launches);
    return (Device)
        Proxy.newProxyInstance(
            Device.class.getClassLoader(),
            new Class<?>[] {Device.class},
            (proxy, method, arguments) -> {
              if (method.getName().equals("recordsGraphs")) {
                return false;
              }
              if (method.getName().equals("record")) {
                return Graph.again((Runnable) arguments[0]); // so that every launch comes by here
              }
              if (method.getName().equals("launch") && left.getAndDecrement() <= 0) {
                throw new DeviceException("CUDA_ERROR_ILLEGAL_ADDRESS (700)");
              }
              try {
                return method.invoke(cpu, arguments);
              } catch (InvocationTargetException e) {
                throw e.getCause();
              }
            });
  }

  /** A row of a number of the test. */
  private record Numbered(LanguageModel model, Row row) implements RowJob {
    @Override
    public Request request() {
      int number = row.getInt(0);
      // The third is one that cannot be served.
      return Request.of(new int[] {number == 2 ? 1 << 30 : number + 5}).withMaxTokens(4);
    }

    @Override
    public List<Row> answered(Result result) {
      return List.of(RowFactory.create(row.getInt(0), result.tokens().length));
    }

    @Override
    public Row failed(String problem) {
      return RowFactory.create(row.getInt(0), problem);
    }
  }

  @Test
  void anEngineThatFailsEndsTheExecutorAndIsNoErrorOfARow() {
    List<String> ended = new ArrayList<>();
    LanguageModel model =
        LanguageModel.at(Local.MODEL).device(poisoned(400)).context(64).maxBatch(2).open();
    Place place = new Place("cuda:1", "1");
    SharedEngine shared =
        new SharedEngine(
            place,
            model,
            (where, problem) -> {
              ended.add(where + ": " + problem.getMessage());
              return new IllegalStateException("the executor is gone", problem);
            });
    BatchMetrics metrics = new BatchMetrics(Local.spark().sparkContext());
    TaskContext task = TaskContext$.MODULE$.empty();
    FedRows rows =
        new FedRows(
            IntStream.range(0, 200).mapToObj(RowFactory::create).iterator(),
            row -> new Numbered(model, row),
            shared,
            metrics,
            task,
            4,
            64);
    List<Row> answered = new ArrayList<>();
    assertFalse(shared.isBroken());
    IllegalStateException gone =
        assertThrows(
            IllegalStateException.class,
            () -> {
              while (rows.hasNext()) {
                answered.add(rows.next());
              }
            });
    assertEquals("the executor is gone", gone.getMessage());
    assertEquals(List.of("cuda:1 (GPU address 1): CUDA_ERROR_ILLEGAL_ADDRESS (700)"), ended);
    assertTrue(shared.isBroken());
    assertTrue(answered.size() > 3 && answered.size() < 200, "answered " + answered.size());
    for (int i = 0; i < answered.size(); i++) {
      assertEquals(i, answered.get(i).getInt(0));
      if (i == 2) {
        assertTrue(answered.get(i).get(1).toString().contains("token"), answered.get(i).toString());
      } else {
        assertEquals(4, answered.get(i).getInt(1), "an answer that stood stays one");
      }
    }
    assertEquals(1, metrics.failedRows());
  }

  @Test
  void inTheDriversProcessItIsAFailureOfTheTask() {
    Local.spark(); // whose executor is the driver
    RuntimeException failure =
        ExecutorEnd.OF_THIS_PROCESS.end(new Place("cuda:0", "0"), new DeviceException("gone"));
    assertEquals("the engine on cuda:0 (GPU address 0) has failed: gone", failure.getMessage());
  }
}
