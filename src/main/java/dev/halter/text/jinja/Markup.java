package dev.halter.text.jinja;

/**
 * What the filter {@code safe} gives: a text to which others are added with HTML's special
 * characters escaped, whether or not the template is one of HTML.
 */
record Markup(String text) {
  static String escape(String text) {
    return text.replace("&", "&amp;")
        .replace(">", "&gt;")
        .replace("<", "&lt;")
        .replace("'", "&#39;")
        .replace("\"", "&#34;");
  }
}
