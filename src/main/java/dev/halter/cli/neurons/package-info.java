/**
 * Commands about neurons: maps, search, agreement, dose, edited copies.
 *
 * {@snippet file="dev/halter/snippets/CommandSnippetsTest.java" region="neurons"}
 */
package dev.halter.cli.neurons;
