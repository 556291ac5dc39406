/**
 * Machines that run Halter's kernels, and their memory: one interface, {@link
 * dev.halter.device.Device}, over a CUDA card and the CPU. {@link dev.halter.device.Devices} opens
 * them by name. Work is queued in call order; what is read back waits for it.
 *
 * {@snippet file="dev/halter/snippets/DeviceSnippetsTest.java" region="scope"}
 */
package dev.halter.device;
