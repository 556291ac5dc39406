/**
 * The command line: one class a command, nothing but arguments and printing.
 *
 * {@snippet file="dev/halter/snippets/CommandSnippetsTest.java" region="generate"}
 */
package dev.halter.cli;
