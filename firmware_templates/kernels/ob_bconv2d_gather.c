#include "ob_bconv2d_core.h"

static bool inside(const ob_window *w, int32_t y, int32_t x) {
  return y >= 0 && y < w->in_h && x >= 0 && x < w->in_w;
}

int32_t ob_bconv2d_gather(const ob_bconv2d_params *params, const uint32_t *input, int32_t oy, int32_t ox,
                          uint32_t *patch) {
  const ob_window *w = &params->window;
  const int32_t group_words = params->words / params->groups;
  const int32_t y0 = oy * w->stride_h - w->pad_h;
  const int32_t x0 = ox * w->stride_w - w->pad_w;
  int32_t outside = 0;
  for (int32_t g = 0; g < params->groups; ++g) {
    for (int32_t ky = 0; ky < w->kernel_h; ++ky) {
      const int32_t y = y0 + ky * w->dilation_h;
      for (int32_t kx = 0; kx < w->kernel_w; ++kx) {
        const int32_t x = x0 + kx * w->dilation_w;
        if (inside(w, y, x)) {
          const uint32_t *pixel = input + (y * w->in_w + x) * params->words + g * group_words;
          for (int32_t i = 0; i < group_words; ++i) {
            *patch++ = pixel[i];
          }
        } else {
          ++outside;
          for (int32_t i = 0; i < group_words; ++i) {
            *patch++ = 0u;
          }
        }
      }
    }
  }
  return outside;
}

int32_t ob_bconv2d_outside(const ob_bconv2d_params *params, const uint32_t *filter, int32_t oy, int32_t ox) {
  const ob_window *w = &params->window;
  const int32_t group_words = params->words / params->groups;
  const int32_t y0 = oy * w->stride_h - w->pad_h;
  const int32_t x0 = ox * w->stride_w - w->pad_w;
  int32_t sum = 0;
  for (int32_t ky = 0; ky < w->kernel_h; ++ky) {
    for (int32_t kx = 0; kx < w->kernel_w; ++kx, filter += group_words) {
      if (!inside(w, y0 + ky * w->dilation_h, x0 + kx * w->dilation_w)) {
        sum += params->tap_channels;
        for (int32_t i = 0; i < group_words; ++i) {
          sum -= 2 * ob_popcount(filter[i]);
        }
      }
    }
  }
  return sum;
}
