#include "ob_quantize.h"

void ob_quantize_i8(const int8_t *input, int32_t pixels, int32_t channels, int32_t pitch, int32_t zero_point,
                    uint32_t *output) {
  const int32_t gap = pitch - channels;
  for (int32_t n = 0; n < pixels; ++n, input += gap) {
    for (int32_t first = 0; first < channels; first += 32) {
      const int32_t count = ob_min(32, channels - first);
      uint32_t word = 0u;
      for (int32_t i = 0; i < count; ++i) {
        word = ob_shift_in_sign(word, *input++ - zero_point);
      }
      *output++ = word >> (uint32_t)(32 - count);
    }
  }
}
