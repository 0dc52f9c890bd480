# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2153
# Sourced after lib.sh by what builds single objects: which files the series
# touches and which objects of a build that makes. Never a list by hand.

series_patches()	# full paths, in order
{
	sed "s/#.*//; s/[[:space:]]*\$//; /^\$/d; s|^|$PATCHES/|" "$PATCHES/series"
}

# from /, for in a folder of a repository git leaves out what is not below it
touched_by()		# touched_by PATCH...: the files these patches (full paths) touch
{
	git -C / apply --numstat "$@" | cut -f3- | sort -u
}

touched_files()		# what the whole series touches
{
	local patches

	mapfile -t patches < <(series_patches)
	((${#patches[@]})) || die "the series is empty" "see $PATCHES/series"
	touched_by "${patches[@]}"
}

c_of_kernel()		# filter: sources that the kernel's own build may compile
{
	grep '\.c$' | grep -Ev '^(tools|samples|scripts|Documentation|usr)/' || :
}

# Kbuild decides what is an object of this configuration, so ask it.
objects_in_dir()	# objects_in_dir TREE OUT DIR: names of .o, without DIR
{
	make -s -C "$2" -f - list 2>/dev/null <<-END
	srctree := $1
	obj := $3
	src := $1/$3
	include include/config/auto.conf
	include $1/scripts/Kbuild.include
	include \$(firstword \$(wildcard $1/$3/Kbuild $1/$3/Makefile))
	objs := \$(obj-y) \$(obj-m) \$(lib-y)
	objs += \$(foreach o,\$(objs:.o=),\$(\$(o)-y) \$(\$(o)-m) \$(\$(o)-objs))
	list: ; @printf '%s\n' \$(objs)
	END
}

objects_built()		# objects_built TREE OUT FILE.c...: the .o that OUT's config builds
{
	local tree=$1 out=$2 f dir last='' known=''

	shift 2
	for f; do
		[ -e "$tree/$f" ] || continue
		# mm/Makefile also has what is in mm/tests
		dir=${f%/*}
		while [ ! -e "$tree/$dir/Makefile" ] && [ ! -e "$tree/$dir/Kbuild" ]; do
			dir=$(dirname "$dir")
		done
		[ "$dir" = "$last" ] || {
			last=$dir
			known=" $(objects_in_dir "$tree" "$out" "$dir" | tr '\n' ' ')"
		}
		f=${f#"$dir/"}
		[[ $known != *" ${f%.c}.o "* ]] || echo "$dir/${f%.c}.o"
	done
}

# A build directory of its own below build/BASE, whose tree is not the developer's.
# It looks like build/BASE from inside: ccache then finds the same objects.
side_build()		# side_build NAME: sets SIDE; its tree is $SIDE/linux
{
	SIDE=$BUILD/$1
	lock "$1"
	mkdir -p "$SIDE/out"
	[ ! -e "$BUILD/base-version" ] || cp "$BUILD/base-version" "$SIDE/"
	git_linux worktree prune
	[ -e "$SIDE/linux/Makefile" ] ||
		git_linux worktree add -q -f --detach "$SIDE/linux" "$BASE_TAG" ||
		die "no worktree in $SIDE" "rm -rf $SIDE"
}

side_git()
{
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
		git -C "$SIDE/linux" -c core.hooksPath=/dev/null "$@"
}

side_checkout()		# side_checkout COMMIT: exactly that, whatever was there
{
	side_git reset -q --hard "$1"
	side_git clean -q -fdx
}

# What the tree in $SIDE does not have cannot be switched on.
switch_on()		# switch_on: the lines of vmlean.config that the side tree knows
{
	local line sym

	while read -r line; do
		sym=$(sed -nE 's/^(# )?CONFIG_([A-Z0-9_]+)[= ].*/\2/p' <<< "$line")
		[ -n "$sym" ] || continue
		! side_git grep -qE "^(menu)?config $sym\$" -- 'Kconfig*' '*/Kconfig*' ||
			echo "$line"
	done < "$PATCHES/config/vmlean.config"
}
