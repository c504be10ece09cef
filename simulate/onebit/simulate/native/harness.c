/* Feeds a generated model: reads samples from input.bin until it ends, writes their outputs to output.bin and the deepest
 * stack of any inference to stack.bin (uint32, little endian). The model calls onebit_layer in the build with
 * ONEBIT_LAYERS; every layer's bytes then follow each other in layers.bin, sample by sample.
 *
 * onebit_model.h is written for each build: it includes the model's header and names what is used here as MODEL_*. */
#include "harness.h"

#include "onebit_model.h"

#define PAINT 0xC5A3E917u

/* A function need not write all words of its frame: a stack of which less than this is left may have overflowed. */
#define STACK_RESERVE_BYTES 1024u

typedef char input_bytes_match[sizeof(onebit_model_input_t) * ONEBIT_MODEL_INPUT_SIZE == ONEBIT_MODEL_INPUT_BYTES ? 1 : -1];
typedef char output_bytes_match[sizeof(onebit_model_output_t) * ONEBIT_MODEL_OUTPUT_SIZE == ONEBIT_MODEL_OUTPUT_BYTES ? 1 : -1];

static onebit_model_input_t input[ONEBIT_MODEL_INPUT_SIZE];
static onebit_model_output_t output[ONEBIT_MODEL_OUTPUT_SIZE];

#if defined(ONEBIT_LAYERS)
static int layers_file;
static bool layers_written = true;

void onebit_layer(unsigned layer, const void *data, size_t bytes);

void onebit_layer(unsigned layer, const void *data, size_t bytes)
{
    (void)layer;
    layers_written = onebit_write(layers_file, data, bytes) && layers_written;
}
#endif

/* The stack pointer of the calling function; where it cannot be read, an address below its frame. */
static inline uintptr_t stack_pointer(void)
{
    uintptr_t sp;
#if defined(__x86_64__)
    __asm__ volatile("movq %%rsp, %0" : "=r"(sp));
#elif defined(__arm__) || defined(__aarch64__)
    __asm__ volatile("mov %0, sp" : "=r"(sp));
#else
    sp = (uintptr_t)__builtin_frame_address(0) - 512u;
#endif
    return sp;
}

/* One inference on a freshly painted stack. `*deepest` grows to the bytes it used below this function's frame: the
 * lowest word that lost its paint tells. noinline, and the loops are written out, so that between painting and
 * looking nothing but the model touches the stack. */
static __attribute__((noinline)) int invoke_measured(void *stack_limit, uint32_t *deepest)
{
    const uintptr_t top = stack_pointer() & ~(uintptr_t)3u;
    volatile uint32_t *const limit = stack_limit;
    volatile uint32_t *word;
    for (word = limit; (uintptr_t)word < top; word++) {
        *word = PAINT;
    }
    const int status = ONEBIT_MODEL_INVOKE(input, output);
    for (word = limit; (uintptr_t)word < top && *word == PAINT; word++) {
    }
    const uint32_t used = (uint32_t)(top - (uintptr_t)word);
    *deepest = used > *deepest ? used : *deepest;
    if (status != 0) {
        return ONEBIT_INVOKE_FAILED;
    }
    return (uintptr_t)word - (uintptr_t)limit < STACK_RESERVE_BYTES ? ONEBIT_STACK_FULL : ONEBIT_OK;
}

static bool write_u32(const char *name, uint32_t value)
{
    const unsigned char bytes[4] = {(unsigned char)value, (unsigned char)(value >> 8), (unsigned char)(value >> 16),
                                    (unsigned char)(value >> 24)};
    const int file = onebit_open(name, true);
    return file >= 0 && onebit_write(file, bytes, sizeof bytes) && onebit_close(file);
}

int onebit_run(void *stack_limit)
{
    uint32_t deepest = 0;
    int status = ONEBIT_OK;
    const int input_file = onebit_open("input.bin", false);
    const int output_file = onebit_open("output.bin", true);
    if (input_file < 0 || output_file < 0) {
        return ONEBIT_IO_FAILED;
    }
#if defined(ONEBIT_LAYERS)
    layers_file = onebit_open("layers.bin", true);
    if (layers_file < 0) {
        return ONEBIT_IO_FAILED;
    }
#endif
    while (status == ONEBIT_OK) {
        const size_t bytes = onebit_read(input_file, input, sizeof input);
        if (bytes == 0u) {
            break;
        }
        if (bytes != sizeof input) {
            return ONEBIT_IO_FAILED;
        }
        status = invoke_measured(stack_limit, &deepest);
        if (status == ONEBIT_OK && !onebit_write(output_file, output, sizeof output)) {
            status = ONEBIT_IO_FAILED;
        }
    }
    bool closed = onebit_close(output_file);
#if defined(ONEBIT_LAYERS)
    closed = onebit_close(layers_file) && layers_written && closed;
#endif
    if (status == ONEBIT_OK && !(closed && write_u32("stack.bin", deepest))) {
        status = ONEBIT_IO_FAILED;
    }
    return status;
}
