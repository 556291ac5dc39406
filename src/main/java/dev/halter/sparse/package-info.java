/**
 * Concept dictionaries and sparse codes over them: which few atoms, with which coefficients, make
 * up a vector.
 */
package dev.halter.sparse;
