/**
 * Commands about heads: pairs, patching, knock-out, attention, fits and control.
 *
 * {@snippet file="dev/halter/snippets/CommandSnippetsTest.java" region="heads"}
 */
package dev.halter.cli.heads;
