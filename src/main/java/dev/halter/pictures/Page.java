package dev.halter.pictures;

import dev.halter.files.WholeFile;
import java.io.FilterWriter;
import java.io.IOException;
import java.io.InputStream;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * HTML pages of one file each, which work offline: a template, the style and script that it names,
 * and one JSON document that the script draws.
 *
 * <p>A template is a resource of this package, {@code NAME.html}. In it {@code /*{FILE}*}{@code /}
 * stands for another resource ({@code page.css} holds what all pages share: colours for light and
 * dark, type, tables), and {@code /*{data}*}{@code /}, within {@code <script id="data"
 * type="application/json">}, for the document. Its script reads it by {@code
 * JSON.parse(document.getElementById("data").textContent)}, and must put strings into the page as
 * text, never as HTML. Pages that are drawn without a script have places of their own.
 */
public final class Page {
  private static final Pattern PLACE = Pattern.compile("/\\*\\{([a-z.]+)}\\*/");

  private Page() {}

  /**
   * Writes a page; readers see the whole file or none.
   *
   * @param template the template's name, without {@code .html}
   * @param data writes the JSON document; nothing in it can end the script element that it stands
   *     in, since every {@code <} becomes the escape {@code \}{@code u003c}, the same inside a
   *     string and impossible outside one
   * @throws UncheckedIOException if the file cannot be written
   */
  public static void write(Path file, String template, WholeFile.Content data) {
    write(file, template, Map.of("data", out -> data.write(new ScriptSafe(out))));
  }

  /** A page that holds no document, for a server to which its script speaks. */
  public static String of(String template) {
    StringWriter page = new StringWriter();
    try {
      fill(template, Map.of(), page);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return page.toString();
  }

  /** Writes a page likewise; {@code places} says what else than resources stands where, as HTML. */
  static void write(Path file, String template, Map<String, WholeFile.Content> places) {
    WholeFile.write(file, out -> fill(template, places, out));
  }

  private static void fill(String template, Map<String, WholeFile.Content> places, Writer out)
      throws IOException {
    String page = resource(template + ".html");
    Matcher place = PLACE.matcher(page);
    int done = 0;
    while (place.find()) {
      out.write(page, done, place.start() - done);
      String name = place.group(1);
      if (places.containsKey(name)) {
        places.get(name).write(out);
      } else {
        out.write(resource(name));
      }
      done = place.end();
    }
    out.write(page, done, page.length() - done);
  }

  private static String resource(String name) {
    try (InputStream in = Page.class.getResourceAsStream(name)) {
      if (in == null) {
        throw new IllegalArgumentException("no page resource " + name);
      }
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Passes JSON on with every {@code <} escaped; closing it only flushes. */
  private static final class ScriptSafe extends FilterWriter {
    private static final String ESCAPE = "\\u003c";

    ScriptSafe(Writer out) {
      super(out);
    }

    @Override
    public void write(int c) throws IOException {
      if (c == '<') {
        out.write(ESCAPE);
      } else {
        out.write(c);
      }
    }

    @Override
    public void write(char[] text, int from, int count) throws IOException {
      int end = from + count;
      int done = from;
      for (int i = from; i < end; i++) {
        if (text[i] == '<') {
          out.write(text, done, i - done);
          out.write(ESCAPE);
          done = i + 1;
        }
      }
      out.write(text, done, end - done);
    }

    @Override
    public void write(String text, int from, int count) throws IOException {
      write(text.toCharArray(), from, count);
    }

    @Override
    public void close() throws IOException {
      flush(); // the page goes on
    }
  }
}
