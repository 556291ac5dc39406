/**
 * Claims of the papers put to a model: sums by heads, control of behaviours, removal of concepts.
 *
 * {@snippet file="dev/halter/snippets/EvaluationSnippetsTest.java" region="arithmetic"}
 */
package dev.halter.evaluation;
