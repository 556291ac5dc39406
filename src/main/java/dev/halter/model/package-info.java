/**
 * The forward pass of the Llama family over a ragged batch, and what can be seen and changed in it:
 * {@link dev.halter.model.Site sites} by their TransformerLens names, {@link
 * dev.halter.model.Capture captures} of their activations, {@link dev.halter.model.Edit edits}.
 *
 * {@snippet file="dev/halter/snippets/ModelSnippetsTest.java" region="read"}
 */
package dev.halter.model;
