/**
 * Concept dictionaries from stimuli, and what removing concepts does.
 *
 * {@snippet file="dev/halter/snippets/ConceptsSnippetsTest.java" region="stimuli"}
 */
package dev.halter.concepts;
