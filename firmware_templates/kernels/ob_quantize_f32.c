#include "ob_quantize.h"

void ob_quantize_f32(const float *input, int32_t pixels, int32_t channels, float negative,
                     uint32_t *output) {
  for (int32_t n = 0; n < pixels; ++n) {
    for (int32_t first = 0; first < channels; first += 32) {
      const int32_t count = ob_min(32, channels - first);
      uint32_t word = 0u;
      for (int32_t i = 0; i < count; ++i) {
        word |= (uint32_t)(*input++ <= negative) << (uint32_t)i;
      }
      *output++ = word;
    }
  }
}
