package dev.halter.device;

/** Values on their way from a device to the host. */
public interface Arrival {
  /** Of what is there already. */
  Arrival PAST = () -> {};

  /**
   * Waits until all are there.
   *
   * @throws DeviceException if they cannot be had; so says every call
   */
  void await();
}
