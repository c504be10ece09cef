#include "ob_layout.h"
#include "ob_transpose32.h"

void ob_packed_from_lanes(const uint32_t *input, int32_t pixels, int32_t channels, uint32_t *output) {
  const int32_t words = (channels + 31) / 32;
  const int32_t lanes = (pixels + 31) / 32;
  for (int32_t word = 0; word < words; ++word) {
    for (int32_t lane = 0; lane < lanes; ++lane) {
      uint32_t block[32];
      for (int32_t i = 0; i < 32; ++i) {
        const int32_t channel = word * 32 + i;
        block[i] = channel < channels ? input[channel * lanes + lane] : 0u;
      }
      ob_transpose32(block);
      const int32_t count = ob_min(32, pixels - lane * 32);
      for (int32_t i = 0; i < count; ++i) {
        output[(lane * 32 + i) * words + word] = block[i];
      }
    }
  }
}
