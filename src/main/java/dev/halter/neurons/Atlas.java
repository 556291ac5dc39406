package dev.halter.neurons;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.halter.files.Json;
import dev.halter.model.Site;
import dev.halter.neurons.NeuronSearch.Hit;
import dev.halter.pictures.Page;
import dev.halter.text.VisibleText;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.function.IntFunction;
import java.util.stream.IntStream;
import java.util.zip.GZIPOutputStream;

/**
 * A map as one HTML file to look around in, offline: search by token, where in the layers a concept
 * lives, each neuron's tokens, and curves of effects that were measured.
 *
 * <p>The tokens' texts stand in the page once, those that the map uses, as they are shown. Each
 * layer is a gzip block of its own, which the page opens when it is first needed: for every kept
 * token its number among those texts (24 bits) and −ln of its probability in steps of 1/1000 (16
 * bits, from the second rank on the difference to the rank before), both as planes of bytes, since
 * the upper bytes hardly vary; then the weight norms. So a probability is good to 0.1 %, and the
 * 9.2 million tokens of Llama-3.1-8B take some 40 MB.
 */
public final class Atlas {
  /** The page stays near this size: with larger models it keeps fewer ranks than the map. */
  private static final long LIMIT = 50_000_000;

  private static final int CLEAREST = 24;
  private static final int CURVES = 6;
  private static final double STEPS = 1000;

  /**
   * Effects that were measured for a concept, for its curves.
   *
   * @param concept as it was asked for
   * @param prompt that was read
   * @param site that was clamped
   */
  public record Measurement(String concept, String prompt, Site.Kind site, Verification effects) {}

  private final NeuronMap map;
  private final NeuronMap.Settings settings;
  private final int rows; // neurons and signs of a layer
  private final int[] used; // token ids, ascending
  private final int[] number; // [vocabulary]: place among the used
  private final int kept; // ranks in the page

  private Atlas(NeuronMap map, long limit) {
    this.map = map;
    this.settings = map.settings();
    this.rows = settings.neurons() * settings.sign().factors().length;
    this.number = new int[settings.vocabulary()];
    for (int id : map.tokenIds()) {
      number[id] = 1;
    }
    this.used = IntStream.range(0, number.length).filter(id -> number[id] > 0).toArray();
    for (int i = 0; i < used.length; i++) {
      number[used[i]] = i;
    }
    this.kept = fitting(limit);
  }

  /**
   * Writes a page; readers see the whole file or none.
   *
   * @param model its name, to show
   * @param pieces the text of a token
   * @param measured may be empty
   */
  public static void write(
      Path file,
      String model,
      NeuronMap map,
      IntFunction<String> pieces,
      List<Measurement> measured) {
    write(file, model, map, pieces, measured, LIMIT);
  }

  /** As above, near another size. */
  static void write(
      Path file,
      String model,
      NeuronMap map,
      IntFunction<String> pieces,
      List<Measurement> measured,
      long limit) {
    Atlas atlas = new Atlas(map, limit);
    Page.write(file, "atlas", out -> atlas.json(out, model, pieces, measured));
  }

  /** Ranks whose blocks, as base64, stay below {@code limit} bytes if all are like the first. */
  private int fitting(long limit) {
    int ranks = settings.k();
    while (ranks > 1 && (long) block(0, ranks).length * 4 / 3 * settings.layers() > limit) {
      ranks--;
    }
    return ranks;
  }

  private void json(
      Writer out, String model, IntFunction<String> pieces, List<Measurement> measured)
      throws IOException {
    try (JsonGenerator json = Json.to(out)) {
      json.writeStartObject();
      json.writeStringField("model", model);
      json.writeStringField("projection", NeuronMap.name(settings.projection()));
      json.writeStringField("decode", NeuronMap.name(settings.decode()));
      json.writeFieldName("signs");
      int[] factors = settings.sign().factors();
      json.writeArray(factors, 0, factors.length);
      json.writeNumberField("layers", settings.layers());
      json.writeNumberField("neurons", settings.neurons());
      json.writeNumberField("vocabulary", settings.vocabulary());
      json.writeNumberField("mapped", settings.k());
      json.writeNumberField("kept", kept);
      json.writeNumberField("steps", STEPS);
      json.writeFieldName("ids");
      json.writeArray(used, 0, used.length);
      json.writeStringField("space", VisibleText.of(" "));
      json.writeArrayFieldStart("tokens");
      for (int id : used) {
        json.writeString(VisibleText.of(pieces.apply(id)));
      }
      json.writeEndArray();
      json.writeArrayFieldStart("clearest");
      for (Hit hit : clearest()) {
        hit(json, hit);
      }
      json.writeEndArray();
      json.writeArrayFieldStart("measured");
      for (Measurement measurement : measured) {
        measurement(json, measurement, pieces);
      }
      json.writeEndArray();
      json.writeArrayFieldStart("blocks");
      for (int layer = 0; layer < settings.layers(); layer++) {
        json.writeBinary(block(layer, kept));
      }
      json.writeEndArray();
      json.writeEndObject();
    }
  }

  /** The neurons surest of their top token, one for each token. */
  private List<Hit> clearest() {
    Hit[] best = new Hit[settings.vocabulary()];
    for (int place = 0; place < map.tokenIds().length; place += settings.k()) {
      Hit hit = NeuronSearch.hit(map, place);
      Hit other = best[hit.tokenId()];
      if (other == null || hit.probability() > other.probability()) {
        best[hit.tokenId()] = hit;
      }
    }
    return Arrays.stream(best)
        .filter(hit -> hit != null)
        .sorted(Comparator.comparingDouble(Hit::probability).reversed())
        .limit(CLEAREST)
        .toList();
  }

  private void hit(JsonGenerator json, Hit hit) throws IOException {
    json.writeStartObject();
    json.writeNumberField("layer", hit.layer());
    json.writeNumberField("neuron", hit.neuron());
    json.writeNumberField("sign", hit.sign());
    json.writeNumberField("rank", hit.rank());
    json.writeNumberField("token", number[hit.tokenId()]);
    json.writeNumberField("probability", (float) hit.probability());
    json.writeEndObject();
  }

  private void measurement(JsonGenerator json, Measurement measurement, IntFunction<String> pieces)
      throws IOException {
    List<Verification.Trial> trials = measurement.effects.trials();
    json.writeStartObject();
    json.writeStringField("concept", measurement.concept);
    json.writeStringField("prompt", measurement.prompt);
    String name = new Site(measurement.site, 0).name();
    json.writeStringField("site", name.substring(name.lastIndexOf('.') + 1));
    json.writeNumberField("before", (float) measurement.effects.before().probability());
    json.writeStringField(
        "answer", VisibleText.of(pieces.apply(measurement.effects.before().topToken())));
    json.writeNumberField("candidates", trials.size());
    json.writeArrayFieldStart("curves");
    for (Verification.Trial trial : trials.subList(0, Math.min(CURVES, trials.size()))) {
      json.writeStartObject();
      json.writeFieldName("hit");
      hit(json, trial.hit());
      curve(json, "neuron", trial.clamps(), pieces);
      json.writeNumberField("control", trial.control());
      curve(json, "other", trial.controlClamps(), pieces);
      json.writeEndObject();
    }
    json.writeEndArray();
    json.writeEndObject();
  }

  /** Points [value, probability, next token], by value. */
  private static void curve(
      JsonGenerator json, String name, List<Verification.Clamp> clamps, IntFunction<String> pieces)
      throws IOException {
    json.writeArrayFieldStart(name);
    for (Verification.Clamp clamp :
        clamps.stream().sorted(Comparator.comparingDouble(Verification.Clamp::value)).toList()) {
      json.writeStartArray();
      json.writeNumber(clamp.value());
      json.writeNumber((float) clamp.effect().probability());
      json.writeString(VisibleText.of(pieces.apply(clamp.effect().topToken())));
      json.writeEndArray();
    }
    json.writeEndArray();
  }

  /** A layer with its first {@code ranks} tokens a row, as the class's comment says. */
  private byte[] block(int layer, int ranks) {
    int count = rows * ranks;
    byte[] planes = new byte[5 * count];
    for (int row = 0; row < rows; row++) {
      int from = (layer * rows + row) * settings.k();
      float logZ = map.logZ()[layer * rows + row];
      int before = 0;
      for (int rank = 0; rank < ranks; rank++) {
        int token = number[map.tokenIds()[from + rank]];
        int step = (int) Math.rint((logZ - map.logits()[from + rank]) * STEPS);
        step = Math.clamp(step, before, 0xffff);
        int at = row * ranks + rank;
        planes[at] = (byte) token;
        planes[count + at] = (byte) (token >> 8);
        planes[2 * count + at] = (byte) (token >> 16);
        planes[3 * count + at] = (byte) (step - before);
        planes[4 * count + at] = (byte) (step - before >> 8);
        before = step;
      }
    }
    ByteBuffer norms = ByteBuffer.allocate(4 * settings.neurons()).order(ByteOrder.LITTLE_ENDIAN);
    norms.asFloatBuffer().put(map.weightNorm(), layer * settings.neurons(), settings.neurons());
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (GZIPOutputStream gzip = new GZIPOutputStream(bytes)) {
      gzip.write(planes);
      gzip.write(norms.array());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return bytes.toByteArray();
  }
}
