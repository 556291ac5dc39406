/**
 * What is changed while a model runs: {@link dev.halter.steering.SteeringPlan plans} of edits,
 * {@link dev.halter.steering.Trigger when} they act, and {@link dev.halter.steering.SteeringReport
 * reports} of what they did.
 *
 * {@snippet file="dev/halter/snippets/SteeringSnippetsTest.java" region="plan"}
 *
 * <p>Concepts are removed so:
 *
 * {@snippet file="dev/halter/snippets/SteeringSnippetsTest.java" region="remove"}
 */
package dev.halter.steering;
