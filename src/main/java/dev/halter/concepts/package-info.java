/**
 * Concept dictionaries from stimuli, and control vectors from two sides of a behaviour.
 *
 * {@snippet file="dev/halter/snippets/ConceptsSnippetsTest.java" region="stimuli"}
 */
package dev.halter.concepts;
