/**
 * The CPU: the g++ build of the kernels, through FFM, and products by it or by oneDNN.
 *
 * {@snippet file="dev/halter/snippets/DeviceSnippetsTest.java" region="cpu"}
 */
package dev.halter.device.cpu;
