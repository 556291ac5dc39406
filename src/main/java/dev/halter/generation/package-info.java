/**
 * The door: {@link dev.halter.generation.LanguageModel} opens a model folder, answers prompts under
 * steering plans and reads activations. Behind it {@link dev.halter.generation.Engine} serves many
 * requests in one running batch.
 *
 * {@snippet file="dev/halter/snippets/GenerationSnippetsTest.java" region="first"}
 *
 * <p>{@link dev.halter.generation.AsyncEngine} takes requests from any thread at any time:
 *
 * {@snippet file="dev/halter/snippets/GenerationSnippetsTest.java" region="submit"}
 */
package dev.halter.generation;
