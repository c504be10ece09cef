/* The program around a batch of models: argv = model, request, answer (support/fuzz/farm.py writes and reads them).
 *
 * request: u32 samples, input bytes, output bytes, values, and (bytes, whether it is given) per value that the model
 * reports; then per sample the input and every value. answer: per sample every reported value, then the output. Input and output
 * are blocks of their own of the very size, so that AddressSanitizer sees a byte beyond. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int onebit_call(const void *, void *);
extern onebit_call *const onebit_calls[];
extern const char *const onebit_names[];
void onebit_layer(unsigned layer, const void *data, size_t bytes);

static FILE *answer;
static uint32_t *values;            /* [number of values][2] */
static const unsigned char **given; /* the interpreter's */
static size_t reported;             /* values of the current sample */
static size_t part;                 /* bytes of the next one: it may come pixel by pixel */

void onebit_layer(unsigned layer, const void *data, size_t bytes)
{
    (void)layer;
    if (bytes > values[2u * reported] - part || fwrite(data, 1u, bytes, answer) != bytes) {
        exit(3);
    }
    if (values[2u * reported + 1u] != 0u) {
        /* input, arena and output are no const objects */
        memcpy((void *)(uintptr_t)data, given[reported] + part, bytes);
    }
    part += bytes;
    if (part == values[2u * reported]) {
        part = 0;
        ++reported;
    }
}

static void *block(size_t bytes)
{
    void *found = malloc(bytes == 0u ? 1u : bytes);
    if (found == NULL) {
        exit(3);
    }
    return found;
}

static void *next(FILE *file, size_t bytes)
{
    void *found = block(bytes);
    if (fread(found, 1u, bytes, file) != bytes) {
        exit(3);
    }
    return found;
}

static onebit_call *find(const char *name)
{
    for (size_t i = 0; onebit_names[i] != NULL; ++i) {
        if (strcmp(onebit_names[i], name) == 0) {
            return onebit_calls[i];
        }
    }
    exit(3);
}

int main(int argc, char **argv)
{
    FILE *request = argc == 4 ? fopen(argv[2], "rb") : NULL;
    answer = argc == 4 ? fopen(argv[3], "wb") : NULL;
    if (request == NULL || answer == NULL) {
        return 3;
    }
    uint32_t *header = next(request, 4u * sizeof *header);
    values = next(request, 2u * header[3] * sizeof *values);
    given = block(header[3] * sizeof *given);
    for (uint32_t i = 0; i < header[0]; ++i) {
        void *x = next(request, header[1]);
        void *y = block(header[2]);
        reported = 0;
        for (uint32_t s = 0; s < header[3]; ++s) {
            given[s] = next(request, values[2u * s]);
        }
        if (find(argv[1])(x, y) != 0 || fwrite(y, 1u, header[2], answer) != header[2]) {
            return 3;
        }
        free(x);
        free(y);
        for (uint32_t s = 0; s < header[3]; ++s) {
            free((void *)(uintptr_t)given[s]);
        }
    }
    free(header);
    free(values);
    free(given);
    return fclose(request) | fclose(answer);
}
