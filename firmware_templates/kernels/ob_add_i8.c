#include "ob_elementwise.h"

/* |x| < 2^8, so the shifted value is below 2^28, and two of them times at most 1/2 add up to less. */
static int32_t scaled(int32_t x, const ob_factor *factor, int32_t block) {
  const int32_t shift = 20 + factor->exponent;
  switch (block) {
  case 8:
    return ob_shift_right(ob_scale(x * (1 << 20), factor->q, 0, false), -factor->exponent);
  case 16:
    return ob_scale(shift >= 0 ? x * (int32_t)(1u << shift) : ob_shift_right(x, -shift), factor->q, 0, false);
  default:
    return ob_scale(x * (1 << 20), factor->q, factor->exponent, true);
  }
}

void ob_add_i8(const ob_add_i8_params *params, const ob_operands *operands, const int8_t *a, const int8_t *b,
               int8_t *output) {
  /* copies, which writing int8 cannot change */
  const ob_add_i8_params p = *params;
  const ob_operands each = *operands;
  const int32_t blocks = p.block > 0 ? each.length - each.length % p.block : 0;
  OB_FOR_EACH(&each, a, b, output) {
    const int32_t block = i < blocks ? p.block : 0;
    const int32_t first = scaled(a[j] - p.zero_a, &p.a, block);
    const int32_t second = scaled(b[k] - p.zero_b, &p.b, block);
    const int32_t sum = first + p.sign * second;
    const int32_t y = ob_scale(sum, p.output.q, p.output.exponent, true) + p.zero_point;
    *output = (int8_t)ob_clamp(y, p.low, p.high);
  }
}
