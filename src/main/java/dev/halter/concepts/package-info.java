/** Concept dictionaries from stimuli, and what removing concepts does. */
package dev.halter.concepts;
