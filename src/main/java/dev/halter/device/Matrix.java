package dev.halter.device;

/**
 * A row-major matrix in device memory.
 *
 * @param rowStride elements from one row to the next, at least the number of columns used
 */
public record Matrix(Buffer buffer, DType type, long rowStride) {}
