package dev.halter.device;

/** The blocks of a launch, as CUDA's gridDim. */
public record Grid(int x, int y, int z) {
  public Grid {
    if (x < 1 || y < 1 || z < 1 || y > 65_535 || z > 65_535) {
      throw new IllegalArgumentException("no such grid: " + x + " x " + y + " x " + z);
    }
  }

  public static Grid of(int x) {
    return new Grid(x, 1, 1);
  }

  public static Grid of(int x, int y) {
    return new Grid(x, y, 1);
  }
}
