#include "ob_requantize.h"
#include "ob_softmax.h"

/* Bits of a sum of exponentials before the point; the exponentials themselves are fractions of 31 bits. */
#define SUM_BITS 12

/* a * b * 2^-31, rounded half up. */
static int32_t times(int32_t a, int32_t b) { return ob_scale(a, b, 0, false); }

/* 2^31 / (1 + x * 2^-31), x not negative: Newton's method for 1 / d with d = (1 + x) / 2, from 48/17 - 32/17 * d. y has
 * two bits before the point, and lies in [1, 2]. */
static int32_t one_over_one_plus(int32_t x) {
  const int32_t d = (int32_t)(((uint32_t)x + 0x80000000u) >> 1);
  int32_t y = 1515870810 + times(d, -1010580540);
  for (int32_t i = 0; i < 3; ++i) {
    y += times(y, (1 << 29) - times(d, y)) * 4;
  }
  return y < 1 << 30 ? y * 2 : INT32_MAX;
}

/* x * 2^-shift, rounded half up; x is not negative, shift in 1..40. */
static int32_t shifted(int32_t x, int32_t shift) { return (int32_t)((x + (INT64_C(1) << (shift - 1))) >> shift); }

void ob_softmax_i8_fixed(const int8_t *input, int32_t rows, int32_t n, const int32_t *table, int8_t *output) {
  for (int32_t row = 0; row < rows; ++row, input += n, output += n) {
    int32_t max = input[0];
    for (int32_t i = 1; i < n; ++i) {
      max = ob_max(max, input[i]);
    }
    /* the largest value alone adds 2^(31 - SUM_BITS) */
    uint32_t sum = 0u;
    for (int32_t i = 0; i < n; ++i) {
      sum += (uint32_t)shifted(table[max - input[i]], SUM_BITS);
    }
    int32_t zeros = 0;
    for (; sum < 0x80000000u; sum <<= 1) {
      ++zeros;
    }
    const int32_t inverse = one_over_one_plus((int32_t)(sum - 0x80000000u));
    for (int32_t i = 0; i < n; ++i) {
      const int32_t p = shifted(times(inverse, table[max - input[i]]), SUM_BITS - zeros + 23);
      output[i] = (int8_t)(ob_min(p, 255) - 128);
    }
  }
}
