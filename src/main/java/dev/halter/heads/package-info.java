/**
 * What heads that matter do, and what moving their outputs does: knock-out, attention patterns,
 * Gaussian control fitted to two sets of prompts, several controls at once.
 */
package dev.halter.heads;
