package dev.halter.model;

import dev.halter.device.DType;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** Captures as safetensors: an F32 tensor {@code <id>/<site>} for each, without a batch axis. */
public final class CaptureFile {
  /** Value of the key "format" in the metadata. */
  public static final String FORMAT = "halter capture";

  /** What a file says of itself. */
  public static final Map<String, String> METADATA = Map.of("format", FORMAT);

  private CaptureFile() {}

  /** What a site's values are called. */
  public static String name(String id, Site site) {
    return id + "/" + site.name();
  }

  /** The tensor of a site's values. */
  public static TensorSpec tensor(String id, Site site, int... shape) {
    return new TensorSpec(name(id, site), DType.F32, Arrays.stream(shape).asLongStream().toArray());
  }

  /** Writes captures that are complete, by their ids; readers see the whole file or none. */
  public static void write(Path file, Map<String, Capture> captures) {
    List<TensorSpec> tensors = new ArrayList<>();
    captures.forEach(
        (id, capture) ->
            capture.sites().forEach(site -> tensors.add(tensor(id, site, capture.shape(site)))));
    try (SafetensorsWriter out = SafetensorsWriter.create(file, METADATA, tensors)) {
      captures.forEach(
          (id, capture) ->
              capture.values().forEach((site, values) -> out.write(name(id, site), values)));
    }
  }
}
