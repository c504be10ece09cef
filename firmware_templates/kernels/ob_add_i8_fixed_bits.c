#include "ob_elementwise.h"

void ob_add_i8_fixed_bits(const ob_fixed_sum *sum, const ob_operands *operands, const int8_t *a, const int8_t *b,
                          int32_t zero_point, int8_t *output, uint32_t *bits) {
  /* copies, which writing int8 cannot change */
  const ob_fixed_sum s = *sum;
  const ob_operands each = *operands;
  uint32_t word = 0u;
  OB_FOR_EACH_SIGN(&each, a, b, output, bits, word) {
    const int32_t y = ob_fixed_add(&s, a[i], b[i]);
    output[i] = (int8_t)y;
    word = 2u * word + ((uint32_t)(y - zero_point) >> 31);
  }
}
