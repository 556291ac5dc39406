package dev.halter.serving;

import java.util.Map;

/** How one of OpenAI's interfaces writes answers. */
interface AnswerFormat {
  /** The kind of a whole answer. */
  String kind();

  /** The kind of an event of a stream. */
  String chunkKind();

  /** What a stream tells of an answer before its first token; null for nothing. */
  Map<String, Object> opening(Choice choice);

  /** A part of an answer, in a stream. */
  Map<String, Object> part(Choice choice, Choice.Piece piece);

  /** An answer. */
  Map<String, Object> whole(Choice choice, Choice.Outcome outcome);
}
