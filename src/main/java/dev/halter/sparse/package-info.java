/**
 * Concept dictionaries and sparse codes over them: which few atoms, with which coefficients, make
 * up a vector.
 *
 * {@snippet file="dev/halter/snippets/SparseSnippetsTest.java" region="code"}
 */
package dev.halter.sparse;
