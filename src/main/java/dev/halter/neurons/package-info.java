/**
 * What single MLP neurons say and do: {@link dev.halter.neurons.NeuronMap maps} of neurons to
 * tokens and their search, the effect of clamping them, and copies of a model without a concept's
 * neurons.
 *
 * {@snippet file="dev/halter/snippets/NeuronSnippetsTest.java" region="map"}
 */
package dev.halter.neurons;
