package dev.halter.spark;

import dev.halter.device.DeviceException;
import dev.halter.device.OutOfDeviceMemoryException;
import java.util.function.Supplier;
import org.apache.spark.SparkEnv;

/**
 * What becomes of an executor whose engine has failed. A CUDA context that an error has poisoned
 * answers every later call with that error, and no call inside the process mends it: only a new
 * process does, which Spark starts in the place of one that is gone.
 */
@FunctionalInterface
interface ExecutorEnd {
  /** Of the software, as sysexits.h counts; Spark's own reasons are 50 to 60. */
  int STATUS = 70;

  /** What Spark calls the executor that is the driver. */
  String DRIVER = "driver";

  /** Ends the process, or throws alone where it is the driver's as well. */
  ExecutorEnd OF_THIS_PROCESS =
      (place, problem) -> {
        RuntimeException failure =
            new IllegalStateException(
                "the engine on %s has failed: %s".formatted(place, problem.getMessage()), problem);
        if (DRIVER.equals(SparkEnv.get().executorId())) {
          return failure;
        }
        System.err.println("halter: " + failure.getMessage() + "; this executor ends");
        problem.printStackTrace();
        Thread.ofPlatform().daemon().start(ExecutorEnd::insist);
        System.exit(STATUS);
        return failure;
      };

  /**
   * Ends it.
   *
   * @return to be thrown if the process goes on
   */
  RuntimeException end(Place place, Throwable problem);

  /** Does work on a place's device; what the device then cannot go on from ends this process. */
  static <T> T onFailure(Place place, Supplier<T> work) {
    try {
      return work.get();
    } catch (OutOfDeviceMemoryException e) {
      throw e; // nothing was begun
    } catch (DeviceException e) {
      throw OF_THIS_PROCESS.end(place, e);
    }
  }

  /** Shutdown hooks that wait for the device would wait for ever. */
  private static void insist() {
    try {
      Thread.sleep(10_000);
    } catch (InterruptedException e) {
      // then at once
    }
    Runtime.getRuntime().halt(STATUS);
  }
}
