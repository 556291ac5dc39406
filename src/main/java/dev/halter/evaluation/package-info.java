/**
 * Claims of the papers put to a model: sums by heads, control of behaviours, removal of concepts;
 * and plans put to tasks, beside no plan, prompting and random plans:
 *
 * {@snippet file="dev/halter/snippets/EvaluationSnippetsTest.java" region="plans"}
 *
 * <p>Sums and their pairs are made here too:
 *
 * {@snippet file="dev/halter/snippets/EvaluationSnippetsTest.java" region="arithmetic"}
 */
package dev.halter.evaluation;
