package dev.halter.pictures;

/** What a shape is coloured with: a number in files, which pages replace in the dark. */
sealed interface Paint permits Ink, Shade {
  /** 0xRRGGBB on white paper. */
  int colour();
}
