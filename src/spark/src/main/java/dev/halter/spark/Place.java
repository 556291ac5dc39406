package dev.halter.spark;

import org.apache.spark.TaskContext;
import org.apache.spark.resource.ResourceInformation;

/**
 * Where a task runs its model.
 *
 * @param device by Halter's name: {@code cpu}, {@code cuda:1}
 * @param address of the GPU that Spark gave the task, or "" where it gave none
 */
record Place(String device, String address) {
  private static final String GPU = "gpu";

  /**
   * The place of the task that runs.
   *
   * @param wanted {@code auto} for the task's GPU, or the CPU where it has none; {@code cuda}
   *     likewise, but the first card where it has none; other names as they are
   * @throws IllegalStateException if the task's GPU cannot be used, saying what to set
   */
  static Place of(String wanted, TaskContext task) {
    ResourceInformation gpus = task.resourcesJMap().get(GPU);
    String[] addresses = gpus == null ? new String[0] : gpus.addresses();
    if (addresses.length > 1) {
      throw new IllegalStateException(
          ("the task has %d GPUs, but a model runs on one: set spark.task.resource.gpu.amount to 1"
                  + " or less")
              .formatted(addresses.length));
    }
    String address = addresses.length == 0 ? "" : addresses[0];
    return switch (wanted) {
      case "auto" -> address.isEmpty() ? new Place("cpu", "") : card(address);
      case "cuda" -> address.isEmpty() ? new Place("cuda", "") : card(address);
      default -> new Place(wanted, address);
    };
  }

  private static Place card(String address) {
    if (!address.matches("\\d{1,4}")) {
      throw new IllegalStateException(
          ("Spark calls the task's GPU '%s': Halter knows cards by their number, from 0; let"
                  + " spark.executor.resource.gpu.discoveryScript print numbers")
              .formatted(address));
    }
    return new Place("cuda:" + address, address);
  }

  @Override
  public String toString() {
    return address.isEmpty() ? device : device + " (GPU address " + address + ")";
  }
}
