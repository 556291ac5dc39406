/**
 * Which heads and MLPs a task runs through, and what moving their outputs does. Tasks are {@link
 * dev.halter.heads.Pair pairs} of prompts; effects are measured at the logits of the last token.
 */
package dev.halter.heads;
