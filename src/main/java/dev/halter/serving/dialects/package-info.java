/**
 * What clients of other steering servers say, as plans: EasySteer's, RhizoNymph's vLLM's,
 * vLLM-Lens's and Neuronpedia's. Each reads JSON and nothing else; {@code doc/serve.md} lists what
 * becomes what.
 */
package dev.halter.serving.dialects;
