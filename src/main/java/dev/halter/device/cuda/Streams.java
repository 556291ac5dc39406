package dev.halter.device.cuda;

import static jcuda.driver.JCudaDriver.cuGraphDestroy;
import static jcuda.driver.JCudaDriver.cuStreamBeginCapture;
import static jcuda.driver.JCudaDriver.cuStreamCreate;
import static jcuda.driver.JCudaDriver.cuStreamDestroy;
import static jcuda.driver.JCudaDriver.cuStreamEndCapture;
import static jcuda.driver.JCudaDriver.cuStreamSynchronize;

import dev.halter.device.Graph;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import jcuda.driver.CUgraph;
import jcuda.driver.CUresult;
import jcuda.driver.CUstream;
import jcuda.driver.CUstreamCaptureMode;
import jcuda.driver.CUstream_flags;

/** The stream that carries all work, the one that uploads run on beside it, and its graphs. */
final class Streams implements AutoCloseable {
  final Driver.Stream work;
  final CUstream uploads;
  private final Context context;
  private final Set<CudaGraph> graphs = new HashSet<>();
  private boolean recording;

  Streams(Context context) {
    this.context = context;
    this.work = create();
    try {
      this.uploads = create();
    } catch (RuntimeException | Error e) {
      cuStreamDestroy(work);
      throw e;
    }
  }

  /** A stream that waits for no other. */
  static Driver.Stream create() {
    Driver.Stream stream = new Driver.Stream();
    Driver.check(
        cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING), "creating a stream");
    return stream;
  }

  /** Enters the context, for what cannot be part of a graph. */
  void bindOutsideRecord(String what) {
    context.bind();
    if (recording) {
      throw new IllegalStateException(what + " cannot be recorded in a graph");
    }
  }

  boolean isRecording() {
    return recording;
  }

  /** See {@link CudaDevice#record}. */
  Graph record(Runnable queue) {
    bindOutsideRecord("a graph");
    // Relaxed: a kernel's code may have to be loaded meanwhile, which strict modes forbid.
    Driver.check(
        cuStreamBeginCapture(work, CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED),
        "recording a graph");
    CUgraph captured = new CUgraph();
    recording = true;
    try {
      queue.run();
    } catch (RuntimeException | Error e) {
      recording = false;
      if (cuStreamEndCapture(work, captured) == CUresult.CUDA_SUCCESS) {
        cuGraphDestroy(captured);
      }
      throw e;
    }
    recording = false;
    Driver.check(cuStreamEndCapture(work, captured), "recording a graph");
    CudaGraph graph = new CudaGraph(context, captured, work, graphs::remove);
    graphs.add(graph);
    return graph;
  }

  /** Waits for all work. */
  void synchronize() {
    Driver.check(cuStreamSynchronize(work), CudaDevice.QUEUED);
  }

  /** Ends all work and forgets the graphs: before anything that they use is closed. */
  void finish() {
    context.bindUnchecked();
    cuStreamSynchronize(uploads);
    cuStreamSynchronize(work);
    List.copyOf(graphs).forEach(CudaGraph::close);
  }

  @Override
  public void close() {
    cuStreamDestroy(uploads);
    cuStreamDestroy(work);
  }
}
