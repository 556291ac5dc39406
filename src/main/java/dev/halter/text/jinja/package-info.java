/**
 * The part of Jinja that chat templates of models are written in, bounded in work and text: a
 * template comes with a model and is taken for hostile.
 *
 * {@snippet file="dev/halter/snippets/TextSnippetsTest.java" region="template"}
 */
package dev.halter.text.jinja;
