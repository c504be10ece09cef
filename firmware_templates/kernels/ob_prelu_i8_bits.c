#include "ob_elementwise.h"

void ob_prelu_i8_bits(const ob_prelu_i8_params *params, const ob_operands *operands, const int8_t *a,
                      const int8_t *alpha, int32_t zero_point, int8_t *output, uint32_t *bits) {
  /* copies, which writing int8 cannot change */
  const ob_prelu_i8_params p = *params;
  const ob_operands each = *operands;
  uint32_t word = 0u;
  OB_FOR_EACH_SIGN(&each, a, alpha, output, bits, word) {
    const int32_t y = ob_prelu_quantized(&p, a[i], alpha[i]);
    output[i] = (int8_t)y;
    word = 2u * word + ((uint32_t)(y - zero_point) >> 31);
  }
}
