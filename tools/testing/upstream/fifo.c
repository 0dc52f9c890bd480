// SPDX-License-Identifier: GPL-2.0
/*
 * Linked to a test, this lets nobody else have its CPU but while it sleeps: a
 * daemon it talks to then never comes between two of its steps.
 */
#include <sched.h>
#include <stdio.h>

static void __attribute__((constructor)) fifo(void)
{
	struct sched_param param = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_FIFO, &param))
		perror("sched_setscheduler");
}
