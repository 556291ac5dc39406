/**
 * An NVIDIA card: the driver API by JCuda, kernels from fatbins, cuBLAS. The only package that
 * knows JCuda; it is reached by name through {@link dev.halter.device.Devices}, so that a machine
 * without CUDA never loads it.
 *
 * {@snippet file="dev/halter/snippets/DeviceSnippetsTest.java" region="cuda"}
 */
package dev.halter.device.cuda;
