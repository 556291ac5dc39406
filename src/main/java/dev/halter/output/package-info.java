/**
 * Files for people and other programs: text that is there whole or not at all or grows line by
 * line, and HTML pages that need nothing but themselves. Uses no other package, so any may write
 * through it.
 */
package dev.halter.output;
