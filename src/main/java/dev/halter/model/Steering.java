package dev.halter.model;

import dev.halter.device.Buffer;

/**
 * How the rows of a step are steered: {@code Steering} of {@code cuda-kernels/steer.cuh}, which all
 * kernels of the step take.
 *
 * @param slots I32 [rows]: steering slot of each row
 * @param ops operations of all slots, in a {@link SteeringTable}; null if no row is steered
 * @param changes [rows, stride] f32: what edits changed; likewise may be null
 */
record Steering(Buffer slots, Buffer ops, Buffer changes, int stride) {}
