package dev.halter.device;

import java.util.ArrayList;
import java.util.List;

/** A device that keeps what is launched and multiplied on another, in order. */
public final class CallRecorder extends ForwardingDevice {
  /**
   * A launch, or a product by the name {@code product}.
   *
   * @param arguments of the launch; of a product the weights alone
   */
  public record Call(String name, List<Object> arguments) {}

  private List<Call> calls = new ArrayList<>();

  /** Over {@code device}, which is closed with this. */
  public CallRecorder(Device device) {
    super(device);
  }

  /** Those since this was asked last. */
  public List<Call> calls() {
    List<Call> kept = calls;
    calls = new ArrayList<>();
    return kept;
  }

  @Override
  public boolean recordsGraphs() {
    return false; // so that the launches of each step are seen
  }

  @Override
  public void launch(Kernel kernel, Grid grid, int block, int sharedBytes, Object... arguments) {
    keep(kernel.name(), arguments);
    super.launch(kernel, grid, block, sharedBytes, arguments);
  }

  @Override
  public void launch(
      Kernel kernel, long bytes, Grid grid, int block, int sharedBytes, Object... arguments) {
    keep(kernel.name(), arguments);
    super.launch(kernel, bytes, grid, block, sharedBytes, arguments);
  }

  @Override
  public void multiply(int m, int n, int k, Matrix x, Matrix w, Matrix out) {
    keep("product", w.buffer());
    super.multiply(m, n, k, x, w, out);
  }

  private void keep(String name, Object... arguments) {
    List<Object> copy = new ArrayList<>(); // with nulls
    for (Object argument : arguments) {
      copy.add(argument);
    }
    calls.add(new Call(name, copy));
  }
}
