/**
 * Halter on Apache Spark: datasets in, datasets out, one engine for each executor and GPU address.
 *
 * <p>{@link dev.halter.spark.HalterBatch} answers rows, {@link dev.halter.spark.HalterCapture}
 * reads activations, {@link dev.halter.spark.HalterMap} decodes neurons and {@link
 * dev.halter.spark.HalterPatching} measures heads and MLPs. Spark itself is what the cluster has.
 */
package dev.halter.spark;
