#include "ob_move.h"

void ob_fill_bits(uint32_t value, int32_t n, uint32_t *output) {
  for (int32_t i = 0; i < n; ++i) {
    output[i] = value;
  }
}
