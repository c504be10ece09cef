/* The harness on an emulated Cortex-M: files and exit through ARM semihosting, which the emulator serves. */
#include "harness.h"

enum {
    SYS_OPEN = 0x01,
    SYS_CLOSE = 0x02,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_EXIT_EXTENDED = 0x20,
    MODE_READ_BINARY = 1,
    MODE_WRITE_BINARY = 5,
    APPLICATION_EXIT = 0x20026
};

void onebit_exit(int code);
void onebit_fault(uint32_t program_counter);

static int semihosting(int operation, const void *arguments)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory", "cc");
    return r0;
}

int onebit_open(const char *name, bool write)
{
    uintptr_t length = 0;
    while (name[length] != '\0') {
        length++;
    }
    const uintptr_t arguments[3] = {(uintptr_t)name, write ? MODE_WRITE_BINARY : MODE_READ_BINARY, length};
    return semihosting(SYS_OPEN, arguments);
}

size_t onebit_read(int file, void *data, size_t bytes)
{
    const uintptr_t arguments[3] = {(uintptr_t)file, (uintptr_t)data, bytes};
    return bytes - (size_t)semihosting(SYS_READ, arguments); /* the call returns the bytes it did not read */
}

bool onebit_write(int file, const void *data, size_t bytes)
{
    const uintptr_t arguments[3] = {(uintptr_t)file, (uintptr_t)data, bytes};
    return bytes == 0u || semihosting(SYS_WRITE, arguments) == 0;
}

bool onebit_close(int file)
{
    const uintptr_t arguments[1] = {(uintptr_t)file};
    return semihosting(SYS_CLOSE, arguments) == 0;
}

void onebit_exit(int code)
{
    const uintptr_t arguments[2] = {APPLICATION_EXIT, (uintptr_t)code};
    for (;;) {
        semihosting(SYS_EXIT_EXTENDED, arguments);
    }
}

/* Called by the fault vectors of startup_cortex_m.S: leaves the address of the faulting instruction and stops. */
void onebit_fault(uint32_t program_counter)
{
    const int file = onebit_open("fault.bin", true);
    if (file >= 0) {
        onebit_write(file, &program_counter, sizeof program_counter);
        onebit_close(file);
    }
    onebit_exit(ONEBIT_FAULT);
}
