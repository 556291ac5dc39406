package dev.halter.device.cuda;

import static jcuda.driver.JCudaDriver.cuGraphDestroy;
import static jcuda.driver.JCudaDriver.cuGraphExecDestroy;
import static jcuda.driver.JCudaDriver.cuGraphInstantiate;
import static jcuda.driver.JCudaDriver.cuGraphLaunch;

import dev.halter.device.Graph;
import jcuda.driver.CUgraph;
import jcuda.driver.CUgraphExec;
import jcuda.driver.CUstream;

/** A captured graph, instantiated. */
final class CudaGraph implements Graph {
  private final CudaDevice device;
  private final CUstream stream;
  private final CUgraphExec executable = new CUgraphExec();
  private boolean open = true;

  /** Takes over {@code captured}. */
  CudaGraph(CudaDevice device, CUgraph captured, CUstream stream) {
    this.device = device;
    this.stream = stream;
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
    device.bind();
    Driver.check(cuGraphLaunch(executable, stream), "launching a graph");
  }

  @Override
  public void close() {
    if (open) {
      open = false;
      device.forget(this);
      device.bindUnchecked();
      cuGraphExecDestroy(executable);
    }
  }
}
