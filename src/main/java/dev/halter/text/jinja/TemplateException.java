package dev.halter.text.jinja;

/**
 * A template that cannot be parsed or rendered: a syntax error, a construct outside the supported
 * subset, an operation its values do not allow, a used-up budget, or the template's own {@code
 * raise_exception}. The message names the line of the template.
 */
public final class TemplateException extends IllegalArgumentException {
  private static final long serialVersionUID = 1L;

  private final String reason;
  private final int line;

  /** A failure whose line is not known yet; whoever knows it calls {@link #at}. */
  TemplateException(String reason) {
    this(reason, 0);
  }

  TemplateException(String reason, int line) {
    super(line > 0 ? "chat template, line " + line + ": " + reason : "chat template: " + reason);
    this.reason = reason;
    this.line = line;
  }

  /** This failure at {@code line}, unless a line is known already: the innermost line wins. */
  TemplateException at(int line) {
    if (this.line > 0) {
      return this;
    }
    TemplateException located = new TemplateException(reason, line);
    located.setStackTrace(getStackTrace());
    return located;
  }

  /** What went wrong, without the line; for {@code raise_exception} the template's own words. */
  public String reason() {
    return reason;
  }

  /** The line of the template, counted from 1, or 0 where none applies. */
  public int line() {
    return line;
  }
}
