package dev.halter.neurons;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.halter.files.Json;
import dev.halter.files.ParquetTable;
import dev.halter.files.ParquetTable.Column;
import dev.halter.files.WholeFile;
import dev.halter.neurons.NeuronSearch.Hit;
import java.io.IOException;
import java.io.Writer;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.IntFunction;

/**
 * A map as a table that other programs read: Parquet, JSON lines, or CSV as RFC 4180 has it (tokens
 * always quoted, quotes doubled, lines ended by CR LF, a header line).
 *
 * <p>One row for each kept token, ordered by layer, neuron, sign and rank: {@code layer, neuron,
 * proj, sign, rank, token_id, token, logit, probability, log_z, weight_norm, decode}. What is not
 * finite is null in Parquet and JSON and empty in CSV. A Parquet file also says what it is of, in
 * its key-value metadata: {@code fingerprint, k, vocabulary}.
 */
public enum MapExport {
  PARQUET,
  JSONL,
  CSV;

  /** Columns of the table. */
  public static final List<Column> COLUMNS =
      List.of(
          Column.int32("layer"),
          Column.int32("neuron"),
          Column.text("proj"),
          Column.int32("sign"),
          Column.int32("rank"),
          Column.int32("token_id"),
          Column.text("token"),
          Column.number("logit"),
          Column.number("probability"),
          Column.number("log_z"),
          Column.number("weight_norm"),
          Column.text("decode"));

  private static final String HEADER =
      "layer,neuron,proj,sign,rank,token_id,token,logit,probability,log_z,weight_norm,decode\r\n";

  /**
   * The format that a file's name asks for.
   *
   * @throws IllegalArgumentException if it ends in none of .parquet, .jsonl and .csv
   */
  public static MapExport of(Path file) {
    String name = file.getFileName().toString();
    if (name.endsWith(".parquet")) {
      return PARQUET;
    }
    if (name.endsWith(".jsonl")) {
      return JSONL;
    }
    if (name.endsWith(".csv")) {
      return CSV;
    }
    throw new IllegalArgumentException(
        file + ": no such export: name a file that ends in .parquet, .jsonl or .csv");
  }

  /**
   * Writes the table; readers see the whole file or none.
   *
   * @param pieces the text of a token
   */
  public void write(NeuronMap map, IntFunction<String> pieces, Path file) {
    switch (this) {
      case PARQUET ->
          ParquetTable.write(file, facts(map), COLUMNS, rows -> rows(map, pieces, rows));
      case JSONL -> WholeFile.write(file, out -> lines(map, pieces, out));
      case CSV -> WholeFile.write(file, out -> table(map, pieces, out));
    }
  }

  private static Map<String, String> facts(NeuronMap map) {
    NeuronMap.Settings settings = map.settings();
    return Map.of(
        "fingerprint", settings.fingerprint(),
        "k", Integer.toString(settings.k()),
        "vocabulary", Integer.toString(settings.vocabulary()));
  }

  private static void rows(NeuronMap map, IntFunction<String> pieces, ParquetTable rows)
      throws IOException {
    for (int place = 0; place < map.tokenIds().length; place++) {
      rows.row(row(map, pieces, place));
    }
  }

  /**
   * A row of the table, a value for each column.
   *
   * @param pieces the text of a token
   * @param place index into {@link NeuronMap#tokenIds}
   */
  public static List<Object> row(NeuronMap map, IntFunction<String> pieces, int place) {
    NeuronMap.Settings settings = map.settings();
    Hit hit = NeuronSearch.hit(map, place);
    return Arrays.asList(
        hit.layer(),
        hit.neuron(),
        NeuronMap.name(settings.projection()),
        hit.sign(),
        hit.rank(),
        hit.tokenId(),
        pieces.apply(hit.tokenId()),
        finite(hit.logit()),
        finite((float) hit.probability()),
        finite(map.logZ()[place / settings.k()]),
        finite(norm(map, hit)),
        NeuronMap.name(settings.decode()));
  }

  private static Float finite(float value) {
    return Float.isFinite(value) ? value : null;
  }

  private static void lines(NeuronMap map, IntFunction<String> pieces, Writer out)
      throws IOException {
    NeuronMap.Settings settings = map.settings();
    String proj = NeuronMap.name(settings.projection());
    String decode = NeuronMap.name(settings.decode());
    try (JsonGenerator json = Json.to(out)) {
      json.disable(JsonGenerator.Feature.AUTO_CLOSE_TARGET);
      json.setRootValueSeparator(null);
      for (int place = 0; place < map.tokenIds().length; place++) {
        Hit hit = NeuronSearch.hit(map, place);
        json.writeStartObject();
        json.writeNumberField("layer", hit.layer());
        json.writeNumberField("neuron", hit.neuron());
        json.writeStringField("proj", proj);
        json.writeNumberField("sign", hit.sign());
        json.writeNumberField("rank", hit.rank());
        json.writeNumberField("token_id", hit.tokenId());
        json.writeStringField("token", pieces.apply(hit.tokenId()));
        number(json, "logit", hit.logit());
        number(json, "probability", (float) hit.probability());
        number(json, "log_z", map.logZ()[place / settings.k()]);
        number(json, "weight_norm", norm(map, hit));
        json.writeStringField("decode", decode);
        json.writeEndObject();
        json.writeRaw('\n');
      }
    }
  }

  private static void number(JsonGenerator json, String name, float value) throws IOException {
    if (Float.isFinite(value)) {
      json.writeNumberField(name, value);
    } else {
      json.writeNullField(name);
    }
  }

  private static void table(NeuronMap map, IntFunction<String> pieces, Writer out)
      throws IOException {
    NeuronMap.Settings settings = map.settings();
    String proj = NeuronMap.name(settings.projection());
    String decode = NeuronMap.name(settings.decode());
    out.write(HEADER);
    for (int place = 0; place < map.tokenIds().length; place++) {
      Hit hit = NeuronSearch.hit(map, place);
      out.write(
          String.join(
              ",",
              Integer.toString(hit.layer()),
              Integer.toString(hit.neuron()),
              proj,
              Integer.toString(hit.sign()),
              Integer.toString(hit.rank()),
              Integer.toString(hit.tokenId()),
              '"' + pieces.apply(hit.tokenId()).replace("\"", "\"\"") + '"',
              number(hit.logit()),
              number((float) hit.probability()),
              number(map.logZ()[place / settings.k()]),
              number(norm(map, hit)),
              decode));
      out.write("\r\n");
    }
  }

  private static String number(float value) {
    return Float.isFinite(value) ? Float.toString(value) : "";
  }

  private static float norm(NeuronMap map, Hit hit) {
    return map.weightNorm()[hit.layer() * map.settings().neurons() + hit.neuron()];
  }
}
