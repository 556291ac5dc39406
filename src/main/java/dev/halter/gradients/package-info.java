/**
 * Gradients through what a forward pass does, kernel by kernel: what fine-tuning and first-order
 * effects of patches are made of.
 */
package dev.halter.gradients;
