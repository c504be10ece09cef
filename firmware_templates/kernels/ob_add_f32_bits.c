#include "ob_elementwise.h"
#include "ob_quantize.h"

void ob_add_f32_bits(const ob_operands *operands, const float *a, const float *b, float low, float high, float negative,
                     float *output, uint32_t *bits) {
  const bool finite = ob_is_finite_range(low, high);
  const uint32_t least = ob_bits_of(negative);
  uint32_t word = 0u;
  OB_FOR_EACH_SIGN(operands, a, b, output, bits, word) {
    const float y = a[i] + b[i];
    output[i] = ob_limit(y, low, high, finite);
    word = 2u * word + ob_is_negative(output[i], least);
  }
}
