/**
 * What a model makes of texts: answers to questions with choices, perplexity, logits. Measurement,
 * with or without a plan; nothing here changes a model.
 *
 * {@snippet file="dev/halter/snippets/ScoringSnippetsTest.java" region="perplexity"}
 */
package dev.halter.scoring;
