/**
 * What a model makes of texts: answers to questions with choices, perplexity, logits. Measurement,
 * with or without a plan; nothing here changes a model.
 */
package dev.halter.scoring;
