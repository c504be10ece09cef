#include "ob_elementwise.h"

void ob_add_i8_fixed(const ob_fixed_sum *sum, const ob_operands *operands, const int8_t *a, const int8_t *b,
                     int8_t *output) {
  /* copies, which writing int8 cannot change */
  const ob_fixed_sum s = *sum;
  const ob_operands each = *operands;
  for (int32_t run = 0; run < each.runs; ++run, a += each.step_a, b += each.step_b, output += each.length) {
    for (int32_t i = 0; i < each.length; ++i) {
      output[i] = ob_fixed_add(&s, a[i], b[i]);
    }
  }
}
