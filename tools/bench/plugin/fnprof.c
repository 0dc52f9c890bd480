// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU TCG plugin (API version 1): exact number of instructions executed at
 * each kernel address, between the marks that tools/bench puts around a batch.
 *
 * Every instruction gets an inline counter of its own, so that a page fault in
 * the middle of a translation block counts what ran and no more. The counters
 * run always; what they gained between two marks is added up. At exit "ADDRESS
 * COUNT" lines are written to the file that out= names; address 0 stands for
 * everything outside of the kernel's text and modules.
 *
 * Debian packages no header for plugins; what is needed of the interface
 * (docs.qemu.org, "QEMU TCG Plugins") is declared here.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct qemu_info;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { QEMU_PLUGIN_CB_NO_REGS };
enum { QEMU_PLUGIN_INLINE_ADD_U64 };

/* an ID, where QEMU's header has qemu_plugin_id_t, is an uint64_t */
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
					   void (*cb)(uint64_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
					    void (*cb)(unsigned int vcpu, void *data),
					    int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn,
						int op, void *ptr, uint64_t imm);
void qemu_plugin_register_atexit_cb(uint64_t id,
				    void (*cb)(uint64_t id, void *data), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;

/* x86-64's kernel text without KASLR, and its modules */
static const struct {
	uint64_t start;
	uint64_t size;
} ranges[] = {
	{ 0xffffffff81000000, 32 << 20 },
	{ 0xffffffffc0000000, 32 << 20 },
};

#define NR_RANGES	(sizeof(ranges) / sizeof(ranges[0]))
#define MARK_SIZE	7

struct counter {
	uint64_t runs;		/* bumped by translated code */
	uint64_t begin;		/* its value when the last mark was passed */
	uint64_t sum;		/* of what it gained between marks */
	uint64_t addr;
	struct counter *next;	/* all that are in use */
};

static struct counter *counters[NR_RANGES];
static struct counter elsewhere;
static struct counter *used = &elsewhere;
static const char *out_path;
static bool counting;

static struct counter *counter_of(uint64_t addr)
{
	size_t i;

	for (i = 0; i < NR_RANGES; i++) {
		struct counter *c;

		if (addr - ranges[i].start >= ranges[i].size)
			continue;
		c = &counters[i][addr - ranges[i].start];
		if (!c->addr) {
			c->addr = addr;
			c->next = used;
			used = c;
		}
		return c;
	}
	return &elsewhere;
}

static void mark(unsigned int vcpu, void *begin)
{
	struct counter *c;

	(void)vcpu;
	for (c = used; c; c = c->next) {
		if (counting)
			c->sum += c->runs - c->begin;
		c->begin = c->runs;
	}
	counting = begin;
}

static void translate(uint64_t id, struct qemu_plugin_tb *tb)
{
	size_t i, n = qemu_plugin_tb_n_insns(tb);

	(void)id;
	for (i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		const unsigned char *code = qemu_plugin_insn_data(insn);
		struct counter *c = counter_of(qemu_plugin_insn_vaddr(insn));
		void *begin;

		qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64,
							   &c->runs, 1);
		if (qemu_plugin_insn_size(insn) != MARK_SIZE ||
		    memcmp(code, "\x0f\x1f\x80vml", MARK_SIZE - 1))
			continue;
		begin = code[MARK_SIZE - 1] == 1 ? &counting : NULL;
		qemu_plugin_register_vcpu_insn_exec_cb(insn, mark, QEMU_PLUGIN_CB_NO_REGS, begin);
	}
}

static void finish(uint64_t id, void *data)
{
	FILE *f = fopen(out_path, "w");
	struct counter *c;

	(void)id;
	(void)data;
	for (c = used; f && c; c = c->next)
		if (c->sum)
			fprintf(f, "%" PRIx64 " %" PRIu64 "\n", c->addr, c->sum);
	if (!f || fclose(f))
		perror(out_path);
}

EXPORT int qemu_plugin_install(uint64_t id, const struct qemu_info *info,
			       int argc, char **argv);

/**
 * qemu_plugin_install() - QEMU loads the plugin
 * @id: of the plugin
 * @info: about the machine
 * @argc: number of arguments
 * @argv: of them, one: out=FILE
 *
 * Return: 0, or -1 where QEMU shall give up.
 */
EXPORT int qemu_plugin_install(uint64_t id, const struct qemu_info *info,
			       int argc, char **argv)
{
	size_t i;

	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4)) {
		fprintf(stderr, "fnprof: the one argument is out=FILE\n");
		return -1;
	}
	out_path = strdup(argv[0] + 4);
	for (i = 0; i < NR_RANGES; i++) {
		counters[i] = mmap(NULL, ranges[i].size * sizeof(struct counter),
				   PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (counters[i] == MAP_FAILED)
			return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	qemu_plugin_register_atexit_cb(id, finish, NULL);
	return 0;
}
