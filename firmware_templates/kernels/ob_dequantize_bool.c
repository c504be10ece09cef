#include "ob_quantize.h"

void ob_dequantize_bool(const uint32_t *input, int32_t pixels, int32_t channels, bool *output) {
  const int32_t words = (channels + 31) / 32;
  for (int32_t n = 0; n < pixels; ++n, input += words) {
    for (int32_t c = 0; c < channels; ++c) {
      *output++ = ((input[c / 32] >> (uint32_t)(c % 32)) & 1u) == 0u;
    }
  }
}
