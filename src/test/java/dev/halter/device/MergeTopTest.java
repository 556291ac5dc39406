package dev.halter.device;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Lists and log-sum-exps of a row's parts become one of each. */
class MergeTopTest {
  private static final float NONE = Float.NEGATIVE_INFINITY;

  private record Entry(int id, float value) {}

  @ParameterizedTest
  @MethodSource("dev.halter.device.TestDevices#all")
  void theBestOfAllPartsInOrder(Device device) {
    int[][] shapes = {{1, 1, 1}, {1, 9, 10}, {3, 33, 7}, {63, 63, 32}, {40, 300, 1}};
    for (int[] shape : shapes) {
      for (boolean absolute : new boolean[] {false, true}) {
        check(device, shape[0], shape[1], shape[2], absolute);
      }
    }
  }

  private static void check(Device device, int splits, int segments, int kept, boolean absolute) {
    int rows = 3;
    Random random = new Random(splits);
    Comparator<Entry> bestFirst =
        Comparator.comparingDouble(e -> absolute ? -Math.abs(e.value) : -e.value);
    int[] ids = new int[splits * rows * kept];
    float[] values = new float[ids.length];
    List<List<Entry>> all = new ArrayList<>();
    for (int row = 0; row < rows; row++) {
      all.add(new ArrayList<>());
      for (int split = 0; split < splits; split++) {
        List<Entry> list = new ArrayList<>();
        int entries = random.nextInt(kept + 1); // few values, so that many are equal
        for (int i = 0; i < entries; i++) {
          list.add(new Entry(split * 100 + i, random.nextInt(9) - 4));
        }
        list.sort(bestFirst);
        all.get(row).addAll(list);
        for (int i = 0; i < kept; i++) {
          int at = (split * rows + row) * kept + i;
          ids[at] = i < entries ? list.get(i).id : -1;
          values[at] = i < entries ? list.get(i).value : NONE;
        }
      }
      all.get(row).sort(bestFirst.thenComparingInt(Entry::id));
    }
    float[] sums = new float[segments * rows * 2];
    double[] expected = new double[rows];
    for (int i = 0; i < segments * rows; i++) {
      boolean empty = random.nextInt(4) == 0;
      sums[2 * i] = empty ? NONE : random.nextFloat() * 20;
      sums[2 * i + 1] = empty ? 0 : 1 + random.nextFloat();
      expected[i % rows] += sums[2 * i + 1] * Math.exp(sums[2 * i]);
    }

    try (Buffer partIds = device.allocate(4L * ids.length);
        Buffer partValues = device.allocate(4L * ids.length);
        Buffer partSums = device.allocate(4L * sums.length);
        Buffer outIds = device.allocate(4L * rows * kept);
        Buffer outValues = device.allocate(4L * rows * kept);
        Buffer outSums = device.allocate(8L * rows)) {
      partIds.set(ids);
      partValues.set(values);
      partSums.set(sums);
      device.launch(
          device.kernel("merge_top"),
          Grid.of(rows),
          32,
          0,
          outIds,
          outValues,
          absolute ? null : outSums,
          partIds,
          partValues,
          absolute ? null : partSums,
          splits,
          segments,
          kept,
          absolute ? 1 : 0);
      int[] actualIds = outIds.toInts(rows * kept);
      float[] actual = outValues.toFloats(rows * kept);
      for (int row = 0; row < rows; row++) {
        for (int i = 0; i < kept; i++) {
          boolean there = i < all.get(row).size();
          assertEquals(there ? all.get(row).get(i).id : -1, actualIds[row * kept + i]);
          assertEquals(there ? all.get(row).get(i).value : NONE, actual[row * kept + i]);
        }
        if (!absolute) {
          float[] pair = outSums.toFloats(2 * rows);
          double log = pair[2 * row] + Math.log(pair[2 * row + 1]);
          assertEquals(Math.log(expected[row]), log, expected[row] == 0 ? 0 : 1e-5);
        }
      }
    }
  }
}
