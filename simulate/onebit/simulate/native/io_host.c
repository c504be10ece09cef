/* The harness on the host: stdio files, and a thread of its own so that the stack's limit is known. */
#include "harness.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* Painted anew for each sample, so no larger than a microcontroller's model could ever need. */
#define PAINTED_BYTES ((size_t)128 * 1024)
/* Room above the painted part for the harness and the C library, and below it for what the system keeps there. */
#define MARGIN_BYTES ((size_t)512 * 1024)

static FILE *files[4];

int onebit_open(const char *name, bool write)
{
    for (int i = 0; i < (int)(sizeof files / sizeof files[0]); i++) {
        if (files[i] == NULL) {
            files[i] = fopen(name, write ? "wb" : "rb");
            return files[i] == NULL ? -1 : i;
        }
    }
    return -1;
}

size_t onebit_read(int file, void *data, size_t bytes)
{
    return fread(data, 1, bytes, files[file]);
}

bool onebit_write(int file, const void *data, size_t bytes)
{
    return fwrite(data, 1, bytes, files[file]) == bytes;
}

bool onebit_close(int file)
{
    const bool closed = fclose(files[file]) == 0;
    files[file] = NULL;
    return closed;
}

static int exit_code;

static void *run(void *unused)
{
    char here;
    (void)unused;
    exit_code = onebit_run((void *)(((uintptr_t)&here - PAINTED_BYTES) & ~(uintptr_t)15u));
    return NULL;
}

int main(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    if (pthread_attr_init(&attributes) != 0 ||
        pthread_attr_setstacksize(&attributes, PAINTED_BYTES + 2u * MARGIN_BYTES) != 0 ||
        pthread_create(&thread, &attributes, run, NULL) != 0 || pthread_join(thread, NULL) != 0) {
        return ONEBIT_IO_FAILED;
    }
    return exit_code;
}
