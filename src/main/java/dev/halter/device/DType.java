package dev.halter.device;

/** The element types of tensors and device buffers; names as in the safetensors format. */
public enum DType {
  F64(8),
  F32(4),
  F16(2),
  BF16(2),
  I64(8),
  I32(4),
  I16(2),
  I8(1),
  U8(1),
  BOOL(1);

  private final int bytes;

  DType(int bytes) {
    this.bytes = bytes;
  }

  /** Bytes of one element. */
  public int bytes() {
    return bytes;
  }

  /** Whether it holds floating-point numbers, as vectors do: weights' types and f64. */
  public boolean isFloat() {
    return this == F64 || isWeight();
  }

  /** Whether weights may have this type: f32, f16 or bf16. */
  public boolean isWeight() {
    return this == F32 || this == F16 || this == BF16;
  }
}
