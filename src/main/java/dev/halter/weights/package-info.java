/**
 * What lies on disk: model folders as they come from the Hugging Face hub (configs and safetensors,
 * mapped and never copied), safetensors files of Halter's own, and vectors to steer with. All files
 * are taken for hostile; whatever is wrong with one is a {@link dev.halter.files.BadFileException}
 * of one line.
 *
 * {@snippet file="dev/halter/snippets/WeightsSnippetsTest.java" region="safetensors"}
 */
package dev.halter.weights;
