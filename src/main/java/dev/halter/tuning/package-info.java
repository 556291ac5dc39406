/**
 * Fine-tuning of chosen heads and MLPs: a backward pass that stops at the lowest of them and makes
 * no gradient of any other weight, AdamW on these slices alone, and the tuned model as a folder or
 * an adapter; or of vectors for heads' outputs, which come out as a plan. {@link
 * dev.halter.tuning.TuningRun} is where to begin.
 *
 * {@snippet file="dev/halter/snippets/TuningSnippetsTest.java" region="tune"}
 */
package dev.halter.tuning;
