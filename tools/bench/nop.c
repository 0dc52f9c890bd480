// SPDX-License-Identifier: GPL-2.0
/*
 * The program that the row "exec" executes: does nothing, without a libc.
 */
#include <asm/unistd.h>

void _start(void);

void _start(void)
{
	__asm__ volatile("syscall" :: "a"(__NR_exit_group), "D"(0));
	__builtin_unreachable();
}
