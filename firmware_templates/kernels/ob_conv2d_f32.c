#include "ob_conv2d.h"

static void gather(const ob_conv2d_params *params, const float *input, int32_t oy, int32_t ox, float *patch) {
  const ob_window *w = &params->window;
  for (int32_t ky = 0; ky < w->kernel_h; ++ky) {
    const int32_t y = oy * w->stride_h - w->pad_h + ky * w->dilation_h;
    for (int32_t kx = 0; kx < w->kernel_w; ++kx) {
      const int32_t x = ox * w->stride_w - w->pad_w + kx * w->dilation_w;
      const bool inside = y >= 0 && y < w->in_h && x >= 0 && x < w->in_w;
      for (int32_t c = 0; c < params->in_channels; ++c) {
        *patch++ = inside ? input[(y * w->in_w + x) * params->in_channels + c] : 0.0f;
      }
    }
  }
}

void ob_conv2d_f32(const ob_conv2d_params *params, const float *input, const float *filter, const float *bias,
                   float low, float high, float *patch, float *output) {
  const int32_t taps = params->window.kernel_h * params->window.kernel_w * params->in_channels;
  int32_t at = 0;
  for (int32_t oy = 0; oy < params->window.out_h; ++oy) {
    for (int32_t ox = 0; ox < params->window.out_w; ++ox, at += params->pitch) {
      float *out = output + at;
      gather(params, input, oy, ox, patch);
      for (int32_t o = 0; o < params->out_channels; ++o) {
        float sum = 0.0f;
        for (int32_t i = 0; i < taps; ++i) {
          const float product = patch[i] * filter[o * taps + i];
          sum += product;
        }
        sum += bias[o];
        *out++ = sum < low ? low : (sum > high ? high : sum);
      }
    }
  }
}
