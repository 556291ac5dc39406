/**
 * What heads that matter do, and what moving their outputs does: knock-out, attention patterns,
 * Gaussian control fitted to two sets of prompts, several controls at once.
 *
 * {@snippet file="dev/halter/snippets/HeadsSnippetsTest.java" region="knockout"}
 */
package dev.halter.heads;
