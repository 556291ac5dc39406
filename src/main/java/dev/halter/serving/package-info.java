/**
 * A model behind OpenAI's HTTP interface: {@code halter serve}. {@link dev.halter.serving.Server}
 * is the door.
 *
 * <p>Each {@code …Routes} class serves some paths; what they have in common is the {@code Backend}.
 * Requests wait in virtual threads, one engine thread makes all tokens.
 */
package dev.halter.serving;
