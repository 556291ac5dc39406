package dev.halter.device.cuda;

import static jcuda.driver.JCudaDriver.cuGraphDestroy;
import static jcuda.driver.JCudaDriver.cuGraphExecDestroy;
import static jcuda.driver.JCudaDriver.cuGraphInstantiate;
import static jcuda.driver.JCudaDriver.cuGraphLaunch;

import dev.halter.device.Graph;
import java.util.function.Consumer;
import jcuda.driver.CUgraph;
import jcuda.driver.CUgraphExec;
import jcuda.driver.CUstream;

/** A captured graph, instantiated. */
final class CudaGraph implements Graph {
  private final Context context;
  private final CUstream stream;
  private final Consumer<CudaGraph> closed;
  private final CUgraphExec executable = new CUgraphExec();
  private boolean open = true;

  /** Takes over {@code captured}; {@code closed} hears when this is closed. */
  CudaGraph(Context context, CUgraph captured, CUstream stream, Consumer<CudaGraph> closed) {
    this.context = context;
    this.stream = stream;
    this.closed = closed;
    try {
      Driver.check(cuGraphInstantiate(executable, captured, 0), "instantiating a graph");
    } finally {
      cuGraphDestroy(captured);
    }
  }

  @Override
  public void launch() {
    if (!open) {
      throw new IllegalStateException("the graph is closed");
    }
    context.bind();
    Driver.check(cuGraphLaunch(executable, stream), "launching a graph");
  }

  @Override
  public void close() {
    if (open) {
      open = false;
      closed.accept(this);
      context.bindUnchecked();
      cuGraphExecDestroy(executable);
    }
  }
}
