/* What the model's harness needs from the machine it runs on; io_host.c and io_semihosting.c supply it. */
#ifndef ONEBIT_HARNESS_H
#define ONEBIT_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit codes; simulate's harness.py turns them into errors. */
enum {
    ONEBIT_OK = 0,
    ONEBIT_INVOKE_FAILED = 96, /* the model's invoke returned other than 0 */
    ONEBIT_IO_FAILED = 97,     /* a file could not be opened, ends inside a sample, or could not be written */
    ONEBIT_STACK_FULL = 98,    /* the stack came near its limit, or passed it */
    ONEBIT_FAULT = 99          /* the processor faulted; fault.bin holds the program counter */
};

/* Runs every sample of input.bin; the stack may grow down to `stack_limit`. Returns an exit code. */
int onebit_run(void *stack_limit);

/* Files of the working folder. A negative handle: the file cannot be opened. */
int onebit_open(const char *name, bool write);
size_t onebit_read(int file, void *data, size_t bytes); /* bytes read, fewer at the end of the file */
bool onebit_write(int file, const void *data, size_t bytes);
bool onebit_close(int file);

#endif
