/**
 * Claims of the papers put to a model: sums by heads, control of behaviours, removal of concepts.
 */
package dev.halter.evaluation;
