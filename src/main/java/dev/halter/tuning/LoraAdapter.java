package dev.halter.tuning;

import dev.halter.device.DType;
import dev.halter.files.Destination;
import dev.halter.files.Json;
import dev.halter.files.Successor;
import dev.halter.weights.ModelConfig;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import dev.halter.weights.TensorNames;
import dev.halter.weights.TensorNames.Block;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * What tuning has changed as a LoRA adapter of PEFT. ΔW = B · A without loss: a change of whole
 * rows is a selector times these rows, one of whole columns these columns times a selector. So a
 * matrix's rank is the number of its rows, or columns, that are tuned.
 */
final class LoraAdapter {
  /** The highest rank that vLLM serves (vllm/config/lora.py). */
  private static final int MAX_RANK = 512;

  /** How far a slice has moved, [rows, columns]. */
  record Change(Slice slice, float[] values) {
    boolean isOfColumns() {
      return slice.part() == Block.O;
    }

    int rank() {
      return isOfColumns() ? slice.columns() : slice.rows();
    }
  }

  private final ModelConfig config;
  private final Map<String, List<Change>> changes = new TreeMap<>(); // by tensor

  LoraAdapter(ModelConfig config, List<Change> all) {
    this.config = config;
    all.forEach(
        change ->
            changes.computeIfAbsent(change.slice.tensor(), name -> new ArrayList<>()).add(change));
  }

  /**
   * Checks that an adapter can hold what is tuned.
   *
   * @throws IllegalArgumentException if MLPs are tuned, or too many heads of a layer
   */
  static void requireFits(ModelConfig config, Selection selection) {
    List<Change> all =
        selection.slices().stream().map(slice -> new Change(slice, new float[0])).toList();
    for (Change change : all) {
      switch (change.slice.part()) {
        case Q, K, V, O -> {}
        default ->
            throw new IllegalArgumentException(
                "an adapter holds no whole MLPs: leave --adapter or --mlps out");
      }
    }
    LoraAdapter adapter = new LoraAdapter(config, all);
    for (String tensor : adapter.changes.keySet()) {
      if (adapter.rank(tensor) > MAX_RANK) {
        throw new IllegalArgumentException(
            "%s would have rank %d in an adapter, where %d is the most: tune fewer heads of the layer, or leave --adapter out"
                .formatted(tensor, adapter.rank(tensor), MAX_RANK));
      }
    }
  }

  private int rank(String tensor) {
    return changes.get(tensor).stream().mapToInt(Change::rank).sum();
  }

  /**
   * Writes the adapter.
   *
   * @param target a folder that does not exist
   * @param base what the adapter says that it is of
   */
  void write(Path target, String base) {
    try (Successor growing = Successor.folder(target)) {
      Files.writeString(
          growing.path().resolve("adapter_config.json"), Json.text(settings(base)) + "\n");
      List<TensorSpec> specs = new ArrayList<>();
      for (String tensor : changes.keySet()) {
        long[] shape = TensorNames.expected(config).get(tensor);
        specs.add(new TensorSpec(name(tensor, "A"), DType.F32, rank(tensor), shape[1]));
        specs.add(new TensorSpec(name(tensor, "B"), DType.F32, shape[0], rank(tensor)));
      }
      Path file = growing.path().resolve("adapter_model.safetensors");
      try (SafetensorsWriter out = SafetensorsWriter.create(file, Map.of("format", "pt"), specs)) {
        changes.keySet().forEach(tensor -> write(out, tensor));
      }
      growing.takePlace();
    } catch (IOException e) {
      throw Destination.unwritable(target, e);
    }
  }

  private static String module(String tensor) {
    return tensor.substring(0, tensor.length() - ".weight".length());
  }

  private static String name(String tensor, String factor) {
    return "base_model.model." + module(tensor) + ".lora_" + factor + ".weight";
  }

  private Map<String, Object> settings(String base) {
    Map<String, Object> ranks = new TreeMap<>();
    changes.keySet().forEach(tensor -> ranks.put(module(tensor), rank(tensor)));
    int highest = changes.keySet().stream().mapToInt(this::rank).max().orElseThrow();
    return Json.object(
        "peft_type",
        "LORA",
        "task_type",
        "CAUSAL_LM",
        "base_model_name_or_path",
        base,
        "inference_mode",
        true,
        "r",
        highest,
        "lora_alpha",
        highest, // of each its own rank: B · A counts as it is
        "rank_pattern",
        ranks,
        "alpha_pattern",
        ranks,
        "target_modules",
        List.copyOf(ranks.keySet()),
        "lora_dropout",
        0.0,
        "bias",
        "none",
        "fan_in_fan_out",
        false);
  }

  private void write(SafetensorsWriter out, String tensor) {
    long[] shape = TensorNames.expected(config).get(tensor);
    int inputs = (int) shape[1];
    int rank = rank(tensor);
    float[] a = new float[rank * inputs];
    float[] b = new float[(int) shape[0] * rank];
    int first = 0;
    for (Change change : changes.get(tensor)) {
      Slice slice = change.slice;
      for (int i = 0; i < change.rank(); i++) {
        if (change.isOfColumns()) {
          a[(first + i) * inputs + slice.column() + i] = 1;
        } else {
          b[(slice.row() + i) * rank + first + i] = 1;
        }
      }
      for (int row = 0; row < slice.rows(); row++) {
        int to = change.isOfColumns() ? row * rank + first : (first + row) * inputs;
        System.arraycopy(
            change.values,
            row * slice.columns(),
            change.isOfColumns() ? b : a,
            to,
            slice.columns());
      }
      first += change.rank();
    }
    out.write(name(tensor, "A"), a);
    out.write(name(tensor, "B"), b);
  }
}
