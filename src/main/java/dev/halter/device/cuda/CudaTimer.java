package dev.halter.device.cuda;

import static jcuda.driver.JCudaDriver.cuEventCreate;
import static jcuda.driver.JCudaDriver.cuEventDestroy;
import static jcuda.driver.JCudaDriver.cuEventElapsedTime;
import static jcuda.driver.JCudaDriver.cuEventRecord;
import static jcuda.driver.JCudaDriver.cuEventSynchronize;

import dev.halter.device.Timer;
import java.util.ArrayList;
import java.util.List;
import java.util.function.LongConsumer;
import jcuda.driver.CUevent;
import jcuda.driver.CUevent_flags;
import jcuda.driver.CUstream;

/**
 * Events of the stream before and after each piece of work. They are read when {@value #PAIRS} are
 * under way, so that the host seldom waits. Where the card waits for the host, the microsecond or
 * two between an event and the launch behind it count as work.
 */
final class CudaTimer implements Timer {
  private static final int PAIRS = 512;

  private final Context context;
  private final CUstream stream;
  private final List<CUevent> starts = new ArrayList<>();
  private final List<CUevent> ends = new ArrayList<>();
  private final List<LongConsumer> waiting = new ArrayList<>();

  CudaTimer(Context context, CUstream stream) {
    this.context = context;
    this.stream = stream;
  }

  @Override
  public void start() {
    context.bind();
    if (waiting.size() == PAIRS) {
      finish();
    }
    record(starts);
  }

  @Override
  public void stop(LongConsumer nanoseconds) {
    context.bind();
    record(ends);
    waiting.add(nanoseconds);
  }

  private void record(List<CUevent> events) {
    if (events.size() == waiting.size()) {
      CUevent event = new CUevent();
      Driver.check(cuEventCreate(event, CUevent_flags.CU_EVENT_DEFAULT), "creating an event");
      events.add(event);
    }
    Driver.check(cuEventRecord(events.get(waiting.size()), stream), "recording an event");
  }

  @Override
  public void finish() {
    if (waiting.isEmpty()) {
      return;
    }
    context.bind();
    Driver.check(cuEventSynchronize(ends.get(waiting.size() - 1)), CudaDevice.QUEUED);
    float[] milliseconds = new float[1];
    for (int i = 0; i < waiting.size(); i++) {
      Driver.check(
          cuEventElapsedTime(milliseconds, starts.get(i), ends.get(i)), "reading an event's time");
      waiting.get(i).accept(Math.round(1e6 * milliseconds[0]));
    }
    waiting.clear();
  }

  @Override
  public void close() {
    context.bindUnchecked();
    starts.forEach(event -> cuEventDestroy(event));
    ends.forEach(event -> cuEventDestroy(event));
  }
}
