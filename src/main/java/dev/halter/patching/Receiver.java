package dev.halter.patching;

import dev.halter.model.Head;
import dev.halter.model.Site;
import dev.halter.weights.ModelConfig;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What a head receives: its queries, or the keys or values of its KV group, which under
 * grouped-query attention other heads read as well. Written {@code 13.11.q}.
 */
public record Receiver(Head head, Input input) {
  private static final Pattern NAME = Pattern.compile("(.+)\\.([qkv])");

  /** Which of the three. */
  public enum Input {
    Q,
    K,
    V
  }

  /**
   * Reads {@code 13.11.q}.
   *
   * @throws IllegalArgumentException if it names no head's input
   */
  public static Receiver parse(String name, ModelConfig config) {
    Matcher parts = NAME.matcher(name.strip());
    if (!parts.matches()) {
      throw new IllegalArgumentException(
          "'" + name + "' is no receiver: write LAYER.HEAD.q, .k or .v");
    }
    return new Receiver(
        Head.parse(parts.group(1), config), Input.valueOf(parts.group(2).toUpperCase(Locale.ROOT)));
  }

  /** The heads that read it: the head itself, or all of its KV group. */
  public List<Head> readers(ModelConfig config) {
    return Head.all(config).stream()
        .filter(other -> other.layer() == head.layer())
        .filter(
            other ->
                input == Input.Q ? other.equals(head) : other.kvHead(config) == head.kvHead(config))
        .toList();
  }

  /** Where it is received: {@code hook_q}, {@code hook_k} or {@code hook_v}. */
  public Site site() {
    return new Site(
        switch (input) {
          case Q -> Site.Kind.Q;
          case K -> Site.Kind.K;
          case V -> Site.Kind.V;
        },
        head.layer());
  }

  /** Its place among the heads of {@link #site}: the query head, or the KV head. */
  public int place(ModelConfig config) {
    return input == Input.Q ? head.head() : head.kvHead(config);
  }

  @Override
  public String toString() {
    return head + "." + input.name().toLowerCase(Locale.ROOT);
  }
}
