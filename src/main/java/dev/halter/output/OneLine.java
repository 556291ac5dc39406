package dev.halter.output;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.SerializableString;
import com.fasterxml.jackson.core.io.CharacterEscapes;
import com.fasterxml.jackson.core.io.SerializedString;
import java.io.IOException;
import java.io.Writer;

/**
 * JSON that is one line to every reader of lines: U+2028 and U+2029 end none in JSON, but do for
 * many programs, so they are written as escapes.
 */
public final class OneLine {
  private static final JsonFactory FACTORY =
      new JsonFactoryBuilder().characterEscapes(new Separators()).build();

  private OneLine() {}

  /** Writes JSON to {@code out}. */
  public static JsonGenerator to(Writer out) throws IOException {
    return FACTORY.createGenerator(out);
  }

  private static final class Separators extends CharacterEscapes {
    private static final long serialVersionUID = 1L;

    @Override
    public int[] getEscapeCodesForAscii() {
      return standardAsciiEscapesForJSON();
    }

    @Override
    public SerializableString getEscapeSequence(int c) {
      return c == 0x2028 || c == 0x2029
          ? new SerializedString("\\u" + Integer.toHexString(c))
          : null;
    }
  }
}
