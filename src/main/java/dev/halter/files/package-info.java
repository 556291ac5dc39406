/**
 * Bytes, text, JSON, CSV and Parquet. What comes in is taken for hostile: it is bounded, and
 * whatever is wrong with it is a {@link dev.halter.files.BadFileException} of one line. What goes
 * out is there whole or not at all, or grows line by line. Uses no other package, so any may read
 * and write through it.
 *
 * {@snippet file="dev/halter/snippets/FilesSnippetsTest.java" region="json"}
 */
package dev.halter.files;
