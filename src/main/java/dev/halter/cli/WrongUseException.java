package dev.halter.cli;

/** Arguments that cannot mean anything, whatever the model and the files hold: exit code 2. */
public final class WrongUseException extends IllegalArgumentException {
  private static final long serialVersionUID = 1L;

  public WrongUseException(String message) {
    super(message);
  }
}
