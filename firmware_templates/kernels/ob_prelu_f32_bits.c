#include "ob_elementwise.h"
#include "ob_quantize.h"

void ob_prelu_f32_bits(const ob_operands *operands, const float *a, const float *alpha, float negative, float *output,
                       uint32_t *bits) {
  const uint32_t least = ob_bits_of(negative);
  uint32_t word = 0u;
  OB_FOR_EACH_SIGN(operands, a, alpha, output, bits, word) {
    output[i] = ob_prelu(a[i], alpha[i]);
    word = 2u * word + ob_is_negative(output[i], least);
  }
}
