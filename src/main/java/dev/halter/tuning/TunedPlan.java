package dev.halter.tuning;

import dev.halter.files.Destination;
import dev.halter.files.Json;
import dev.halter.files.Successor;
import dev.halter.steering.HeadControl;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** Tuned vectors of heads as a folder: {@code plan.json}, and the maps that it names. */
record TunedPlan(String name, HeadControl control) {
  private static final String PLAN = "plan.json";
  private static final String MAPS = "heads.safetensors";

  /**
   * Writes the folder, whole or not at all.
   *
   * @param target a folder that does not exist
   * @param note which becomes its {@code tune.json}
   */
  void write(Path target, String note) {
    try (Successor growing = Successor.folder(target)) {
      Path folder = growing.path();
      control.write(folder.resolve(MAPS));
      Object plan =
          Json.object(
              "name",
              name,
              "interventions",
              List.of(Json.object("op", "head_affine", "file", MAPS)));
      Files.writeString(folder.resolve(PLAN), Json.text(plan) + "\n");
      Files.writeString(folder.resolve("tune.json"), note);
      growing.takePlace();
    } catch (IOException e) {
      throw Destination.unwritable(target, e);
    }
  }
}
