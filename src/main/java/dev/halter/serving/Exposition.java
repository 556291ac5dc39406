package dev.halter.serving;

import java.util.List;
import java.util.Map;

/** A page of metrics in Prometheus's text format 0.0.4. */
final class Exposition {
  static final String TYPE = "text/plain; version=0.0.4; charset=utf-8";

  private final StringBuilder page = new StringBuilder();
  private final String labels;

  /** A page of which each value is of one model. */
  Exposition(String model) {
    labels = "model_name=\"" + escaped(model) + "\",engine=\"0\"";
  }

  private static String escaped(String value) {
    return value.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n");
  }

  void gauge(String name, String help, double value) {
    head(name, help, "gauge");
    line(name, "", Double.toString(value));
  }

  void counter(String name, String help, long value) {
    head(name, help, "counter");
    line(name, "", Long.toString(value));
  }

  /** A counter for each value of a label. */
  void counters(String name, String help, String label, Map<String, Long> values) {
    head(name, help, "counter");
    values.forEach(
        (each, value) -> line(name, label + "=\"" + escaped(each) + "\",", Long.toString(value)));
  }

  /**
   * A histogram.
   *
   * @param counts of each bound's own values, and one more
   */
  void histogram(String name, String help, List<Double> bounds, List<Long> counts, double sum) {
    head(name, help, "histogram");
    long below = 0;
    for (int i = 0; i < counts.size(); i++) {
      below += counts.get(i);
      String bound = i < bounds.size() ? bounds.get(i).toString() : "+Inf";
      line(name + "_bucket", "le=\"" + bound + "\",", Long.toString(below));
    }
    line(name + "_sum", "", Double.toString(sum));
    line(name + "_count", "", Long.toString(below));
  }

  private void head(String name, String help, String type) {
    page.append("# HELP ").append(name).append(' ').append(help).append('\n');
    page.append("# TYPE ").append(name).append(' ').append(type).append('\n');
  }

  private void line(String name, String label, String value) {
    page.append(name).append('{').append(label).append(labels).append("} ");
    page.append(value).append('\n');
  }

  @Override
  public String toString() {
    return page.toString();
  }
}
