package dev.halter.text.jinja;

/**
 * The value of a name, attribute or item that does not exist. It prints as nothing, is false and
 * empty, and any other use of it is an error that says {@code what} is missing.
 */
record Undefined(String what) {
  TemplateException failure() {
    return new TemplateException(what);
  }
}
