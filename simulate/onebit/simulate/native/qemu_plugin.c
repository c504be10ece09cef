/* A QEMU TCG plugin (API version 1) that feeds counter.c.
 *
 * Arguments: markers=FILE with lines "base bytes slots" (once), then "start size slot" (decimal); counts=FILE receives, at
 * exit, the slots' counts and then the count of each address, as uint64_t in the host's byte order.
 * The declarations below are ours: distributions do not package qemu-plugin.h. */
#include "counter.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct {
    const char *target_name;
    struct {
        int min;
        int cur;
    } version;
    bool system_emulation;
    struct {
        int smp_vcpus;
        int max_vcpus;
    } system;
} qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_CB_R_REGS, QEMU_PLUGIN_CB_RW_REGS };
typedef void (*translate_cb)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*exit_cb)(qemu_plugin_id_t, void *);
typedef void (*execute_cb)(unsigned, void *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translate_cb callback);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, exit_cb callback, void *user);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, execute_cb callback,
                                            enum qemu_plugin_cb_flags flags, void *user);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))
EXPORT extern int qemu_plugin_version;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv);

int qemu_plugin_version = 1;

static onebit_counter *counter;
static uint64_t counted_bytes;
static uint32_t slot_count;
static FILE *counts_file;

static void on_execute(unsigned vcpu, void *address)
{
    (void)vcpu;
    onebit_counter_step(counter, (uint64_t)(uintptr_t)address);
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    const size_t n = qemu_plugin_tb_n_insns(tb);
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        qemu_plugin_register_vcpu_insn_exec_cb(insn, on_execute, QEMU_PLUGIN_CB_NO_REGS,
                                               (void *)(uintptr_t)qemu_plugin_insn_vaddr(insn));
    }
}

static void on_exit_write_counts(qemu_plugin_id_t id, void *user)
{
    (void)id;
    (void)user;
    fwrite(onebit_counter_slots(counter), sizeof(uint64_t), slot_count, counts_file);
    fwrite(onebit_counter_hits(counter), sizeof(uint64_t), (size_t)counted_bytes, counts_file);
    fclose(counts_file);
}

static bool read_markers(const char *path)
{
    uint64_t base;
    uint64_t start;
    uint64_t size;
    uint32_t slot;
    bool ok = false;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return false;
    }
    if (fscanf(file, "%" SCNu64 " %" SCNu64 " %" SCNu32, &base, &counted_bytes, &slot_count) == 3) {
        counter = onebit_counter_new(base, counted_bytes, slot_count);
        ok = counter != NULL;
        while (ok && fscanf(file, "%" SCNu64 " %" SCNu64 " %" SCNu32, &start, &size, &slot) == 3) {
            ok = onebit_counter_mark(counter, start, size, slot) == 0;
        }
        ok = ok && feof(file);
    }
    fclose(file);
    return ok;
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    const char *markers = "";
    const char *counts = "";
    (void)info; /* QEMU refuses a plugin whose qemu_plugin_version it does not support */
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "markers=", 8) == 0) {
            markers = argv[i] + 8;
        } else if (strncmp(argv[i], "counts=", 7) == 0) {
            counts = argv[i] + 7;
        }
    }
    counts_file = fopen(counts, "wb");
    if (counts_file == NULL || !read_markers(markers)) {
        fprintf(stderr, "onebit plugin: cannot use markers=%s counts=%s\n", markers, counts);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, on_exit_write_counts, NULL);
    return 0;
}
