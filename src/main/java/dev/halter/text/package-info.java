/**
 * Text to tokens and back: tokenizers, chat templates and their messages, as the model's folder has
 * them; and chat endpoints elsewhere, which answer questions about texts.
 *
 * {@snippet file="dev/halter/snippets/TextSnippetsTest.java" region="tokens"}
 */
package dev.halter.text;
