package dev.halter.heads;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.halter.heads.JointControl.Contested;
import dev.halter.heads.JointControl.Part;
import dev.halter.model.Head;
import dev.halter.steering.HeadControl;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Heads of 2 numbers: z → a z + b. */
class JointControlTest {
  private static final Head A = new Head(0, 0);
  private static final Head B = new Head(0, 1);
  private static final Head C = new Head(1, 0);

  private static final HeadControl ONE =
      new HeadControl(
          "model",
          Map.of(),
          List.of(A, B),
          new float[] {1, 2, 3, 4, 5, 6, 7, 8},
          new float[] {1, 2, 3, 4});
  private static final HeadControl OTHER =
      new HeadControl(
          "model",
          Map.of(),
          List.of(C, B),
          new float[] {0, 1, 1, 0, 0, 2, 1, 0},
          new float[] {5, 6, 7, 8});

  private static Part one(double effectOnB) {
    return new Part(ONE, 1, new double[][] {{0.1, effectOnB}, {Double.NaN, 0}});
  }

  private static final Part OTHER_PART = new Part(OTHER, 1, new double[][] {{0.9, -0.5}, {0.2, 0}});

  @Test
  void aContestedHeadGoesToTheLargerEffect() {
    JointControl joint = JointControl.of(List.of(one(0.4), OTHER_PART), Contested.LARGER_EFFECT);
    assertEquals(List.of(A, B, C), joint.control().heads());
    assertEquals(List.of(new Head(0, 1)), joint.contested());
    assertEquals(List.of(1), joint.owners().get(new Head(0, 1)));
    assertArrayEquals(new float[] {1, 2, 3, 4, 0, 2, 1, 0, 0, 1, 1, 0}, joint.control().a());
    assertArrayEquals(new float[] {1, 2, 7, 8, 5, 6}, joint.control().b());
    joint = JointControl.of(List.of(one(-0.6), OTHER_PART), Contested.LARGER_EFFECT);
    assertEquals(List.of(0), joint.owners().get(new Head(0, 1)));
    assertArrayEquals(new float[] {1, 2, 3, 4, 5, 6}, joint.control().b());
    assertEquals(0.5, JointControl.overlap(one(0), OTHER_PART));
  }

  @Test
  void composedMapsActOneAfterTheOther() {
    JointControl joint = JointControl.of(List.of(one(1), OTHER_PART), Contested.COMPOSE);
    // [0 2; 1 0] ([5 6; 7 8] z + [3 4]) + [7 8]
    HeadControl b = joint.control().only(List.of(B));
    assertArrayEquals(new float[] {14, 16, 5, 6}, b.a());
    assertArrayEquals(new float[] {15, 11}, b.b());
    assertEquals(List.of(0, 1), joint.owners().get(new Head(0, 1)));
  }

  @Test
  void eachPartsStrengthIsFoldedIn() {
    Part half = new Part(ONE.only(List.of(A)), 0.5f, new double[][] {{1}});
    HeadControl control = JointControl.of(List.of(half), Contested.COMPOSE).control();
    assertArrayEquals(new float[] {1, 1, 1.5f, 2.5f}, control.a());
    assertArrayEquals(new float[] {0.5f, 1}, control.b());
  }

  @Test
  void controlsOfDifferentModelsAreRefused() {
    HeadControl foreign =
        new HeadControl("other", Map.of(), List.of(C), new float[4], new float[2]);
    Part part = new Part(foreign, 1, new double[][] {{0, 0}, {0, 0}});
    assertThrows(
        IllegalArgumentException.class,
        () -> JointControl.of(List.of(one(1), part), Contested.COMPOSE));
  }
}
