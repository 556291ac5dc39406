/**
 * Gradients of chosen heads and MLPs: a backward pass that stops at the lowest of them and makes no
 * gradient of any other weight.
 */
package dev.halter.tuning;
