/**
 * Path and activation patching: which heads and MLPs a task runs through. Tasks are {@link
 * dev.halter.patching.Pair pairs} of prompts; effects are measured at the logits of the last token.
 *
 * {@snippet file="dev/halter/snippets/PatchingSnippetsTest.java" region="patch"}
 */
package dev.halter.patching;
