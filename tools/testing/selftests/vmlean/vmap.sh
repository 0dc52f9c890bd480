#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The vmalloc space under load: the kernel's own lib/test_vmalloc.c, alone, with
# large areas, with a thread on each CPU; then all users of the space at once. What
# is wrong below that is for KASAN, lockdep and CONFIG_DEBUG_VMAP_AREA_CACHE to say.
#
# vmap.sh [FOLDER of test_vmalloc.ko and vmlean.ko; else where modinfo finds them]
# shellcheck disable=SC2317 # functions are run by ok
dir=${1:-/lib/vmlean}
test_ko=$dir/test_vmalloc.ko
vmlean_ko=$dir/vmlean.ko
[ -e "$test_ko" ] || test_ko=$(modinfo -n test_vmalloc 2>/dev/null)
[ -e "$vmlean_ko" ] || vmlean_ko=$(modinfo -n vmlean 2>/dev/null)
stats=/sys/kernel/debug/vmlean/vmap_cache/stats
cpus=$(nproc)
n=0
failed=0
load=
was_loaded=

# pcpu (128), full_fit (2) and long_busy_list (4) take minutes on a debug kernel
if zcat /proc/config.gz 2>/dev/null | grep -q ^CONFIG_KASAN=y; then
	all=1913 loops=20
else
	all=2047 loops=200
fi

ok()	# ok NAME COMMAND...
{
	name=$1
	shift
	n=$((n + 1))
	if "$@"; then
		echo "ok $n $name"
	else
		echo "not ok $n $name"
		failed=1
	fi
}

finish()
{
	for pid in $load; do
		kill "$pid" 2>/dev/null
	done
	wait
	[ -z "$was_loaded" ] || insmod "$vmlean_ko"
}

# The module does its tests when it is inserted, and always refuses to stay; some
# insmods then try once more in another way.
test_vmalloc()	# test_vmalloc MASK PAGES THREADS
{
	dmesg -c >/dev/null
	insmod "$test_ko" run_test_mask="$1" nr_pages="$2" nr_threads="$3" \
		test_loop_count="$loops" 2>/dev/null && return 1
	dmesg | sed -n 's/.*Summary: /# /p'
	# each thread each test, and none failed but the one that is meant to
	tests=0
	left=$1
	while [ "$left" -gt 0 ]; do
		tests=$((tests + left % 2))
		left=$((left / 2))
	done
	done=$(dmesg | grep -c 'Summary: ')
	passed=$(dmesg | grep -c 'Summary: .* failed: 0 ')
	echo "# $passed of $done passed, $tests tests, $3 threads"
	[ "$done" -gt 0 ] && [ $((done % (tests * $3))) -eq 0 ] && [ "$passed" -eq "$done" ]
}

rounds()	# rounds COMMAND...: again and again, until it is killed
{
	while :; do
		"$@"
	done >/dev/null 2>&1 &
	load="$load $!"
}

come_and_go()
{
	insmod "$vmlean_ko"
	rmmod vmlean
}

all_at_once()
{
	rounds come_and_go
	# a stack for each, from the vmalloc space (CONFIG_VMAP_STACK)
	rounds sh -c '/bin/true & /bin/true & wait'
	[ ! -e /tests/churn ] || rounds /tests/churn threads 4 20
	test_vmalloc 1913 5 "$cpus"
	status=$?
	if [ -e /sys/kernel/debug/kunit/vmap_area/run ]; then
		echo 1 >/sys/kernel/debug/kunit/vmap_area/run
		grep '^ok 1 ' /sys/kernel/debug/kunit/vmap_area/results >/dev/null || status=1
	fi
	for pid in $load; do
		kill "$pid"
	done
	wait
	load=
	while ! rmmod vmlean 2>/dev/null && grep -q '^vmlean ' /proc/modules; do
		:
	done
	return "$status"
}

counted()
{
	insmod "$vmlean_ko"
	echo 0 >"$stats"
	test_vmalloc 1 512 1
	sed 's/^/# /' "$stats"
	awk '{ v[$1] = $2 }
	$1 ~ /^(hits|none|misses|other_)/ { answers += $2 }
	END {
		exit !(v["searches"] > 0 && v["hits"] > 0 && answers == v["searches"])
	}' "$stats"
	status=$?
	rmmod vmlean
	return "$status"
}

for ko in "test_vmalloc.ko:$test_ko" "vmlean.ko:$vmlean_ko"; do
	if [ ! -e "${ko#*:}" ]; then
		echo "1..0 # SKIP no ${ko%%:*} in $dir, nor by modinfo"
		exit 4
	fi
done
trap finish EXIT
if grep -q '^vmlean ' /proc/modules; then
	was_loaded=1
	rmmod vmlean
fi

echo "TAP version 13"
echo "1..5"
ok "test_vmalloc, one thread" test_vmalloc $all 1 1
ok "test_vmalloc, 512 pages" test_vmalloc 1025 512 1
ok "test_vmalloc, $cpus threads" test_vmalloc $all 1 "$cpus"
ok "all users at once" all_at_once
ok "counters add up" counted
exit $failed
