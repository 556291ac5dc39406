/**
 * Commands about concepts: dictionaries, partitions, codes, evaluation.
 *
 * {@snippet file="dev/halter/snippets/CommandSnippetsTest.java" region="concepts"}
 */
package dev.halter.cli.concepts;
