#include "ob_elementwise.h"

void ob_add_f32(const ob_operands *operands, const float *a, const float *b, float low, float high, float *output) {
  const bool finite = ob_is_finite_range(low, high);
  OB_FOR_EACH(operands, a, b, output) {
    const float y = a[j] + b[k];
    *output = ob_limit(y, low, high, finite);
  }
}
