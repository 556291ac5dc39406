package dev.halter.device;

import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * A device that passes everything on to another, which is closed with it: what watches or hinders
 * some of it overrides that.
 */
abstract class ForwardingDevice implements Device {
  final Device device;

  ForwardingDevice(Device device) {
    this.device = device;
  }

  @Override
  public String description() {
    return device.description();
  }

  @Override
  public String kind() {
    return device.kind();
  }

  @Override
  public List<String> details() {
    return device.details();
  }

  @Override
  public Memory memory() {
    return device.memory();
  }

  @Override
  public DType weightType(DType file, DType activations) {
    return device.weightType(file, activations);
  }

  @Override
  public boolean sharesHostMemory() {
    return device.sharesHostMemory();
  }

  @Override
  public boolean mixesTypes() {
    return device.mixesTypes();
  }

  @Override
  public boolean wantsLargePieces() {
    return device.wantsLargePieces();
  }

  @Override
  public int multiprocessors() {
    return device.multiprocessors();
  }

  @Override
  public boolean runsSm90() {
    return device.runsSm90();
  }

  @Override
  public void encodeTensorMap(
      MemorySegment map, Matrix matrix, int rows, int columns, int boxRows) {
    device.encodeTensorMap(map, matrix, rows, columns, boxRows);
  }

  @Override
  public boolean recordsGraphs() {
    return device.recordsGraphs();
  }

  @Override
  public Buffer allocate(long bytes) {
    return device.allocate(bytes);
  }

  @Override
  public Buffer upload(MemorySegment host) {
    return device.upload(host);
  }

  @Override
  public Kernel kernel(String name) {
    return device.kernel(name);
  }

  @Override
  public void launch(Kernel kernel, Grid grid, int block, int sharedBytes, Object... arguments) {
    device.launch(kernel, grid, block, sharedBytes, arguments);
  }

  @Override
  public void launch(
      Kernel kernel, long bytes, Grid grid, int block, int sharedBytes, Object... arguments) {
    device.launch(kernel, bytes, grid, block, sharedBytes, arguments);
  }

  @Override
  public void multiply(int m, int n, int k, Matrix x, Matrix w, Matrix out) {
    device.multiply(m, n, k, x, w, out);
  }

  @Override
  public void multiplyTop(int m, int n, int k, Matrix x, Matrix w, Top top) {
    device.multiplyTop(m, n, k, x, w, top);
  }

  @Override
  public Graph record(Runnable work) {
    return recordsGraphs() ? device.record(work) : Graph.again(work);
  }

  @Override
  public boolean isProfiled() {
    return device.isProfiled();
  }

  @Override
  public Timer timer() {
    return device.timer();
  }

  @Override
  public void synchronize() {
    device.synchronize();
  }

  @Override
  public String toString() {
    return description();
  }

  @Override
  public void close() {
    device.close();
  }
}
