# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2153
# Sourced after lib.sh by apply, export, checks/topics and checks/range: the patches
# of patches/BASE, and how they become commits.
#
# The file series orders them, a line each: TOPIC/NAME.patch, and behind it
# "# needs TOPIC..." where a patch makes sense only with others (the counters of a
# feature). TOPICS="vmap stats" chooses topics; without it all are chosen.
#
# In our own tree each commit ends in a line "Topic: NAME" (and "Needs: NAME..."): that
# is how scripts/export knows where it belongs. The patches have no such lines.

tmp=$(mktemp -d "${TMPDIR:-/tmp}/vmlean.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
applied=$LINUX/.git/vmlean-applied	# "KEY COMMIT" of our own last apply

# The user's settings of git stay (safe.directory), but none of their hooks
# runs, and nothing may make git apply lenient.
strict=(-c core.hooksPath=/dev/null -c core.fsmonitor=false
	-c apply.ignoreWhitespace=no -c apply.whitespace=nowarn)

topics()	# all topics, in order
{
	[ ! -e "$PATCHES/series" ] || sed -nE 's|^([^#/]+)/.*|\1|p' "$PATCHES/series" | awk '!seen[$0]++'
}

check_topics()	# are all of TOPICS topics?
{
	local t

	for t in ${TOPICS:-}; do
		topics | grep -qxF -- "$t" ||
			die "no topic '$t' in patches/$BASE" "one of: $(topics | paste -sd' ')"
	done
}

# An awk filter, for a series is read often.
patches()	# the chosen patches, in order: TOPIC/NAME.patch; a series not there yet is empty
{
	[ ! -e "$PATCHES/series" ] || awk -v chosen=" ${TOPICS-$(topics | paste -sd' ')} " '
		function is_chosen(topic)	{ return index(chosen, " " topic " ") }

		/^#/ || !NF	{ next }
		{
			split($1, at, "/")
			all = is_chosen(at[1])
			for (i = 4; i <= NF; i++)
				all = all && is_chosen($i)
		}
		all		{ print $1 }
	' "$PATCHES/series"
}

patch_paths()
{
	patches | sed "s|^|$PATCHES/|"
}

needs_of()	# needs_of TOPIC/NAME.patch
{
	sed -n "s|^$1 # needs ||p" "$PATCHES/series"
}

series_key()
{
	{ sed '/^#/d' "$PATCHES/series"; patch_paths | xargs -r -d '\n' cat; } 2>/dev/null |
		sha256sum | cut -d' ' -f1
}

check_patches()
{
	local p

	check_topics
	while read -r p; do
		[ -r "$PATCHES/$p" ] || die "$PATCHES/$p is in the series, but not there" \
			"git checkout patches/, or scripts/export"
	done < <(patches)
}

# why FILE: the line of git apply's stderr that says most
why()
{
	{ grep -m1 -E 'does not apply|corrupt|already exists' "$1" || head -n 1 "$1"; } |
		sed 's/^error: //'
}

# make_commits REPO BASE [--own]: the series as commits on top of BASE, without
# touching any work tree or index; the new objects stay in $tmp until keep_objects.
# --own adds the lines that scripts/export reads. The same series on the same base
# gives the same commit ids everywhere.
# Sets $made; on failure returns 1 with the reason in $reason.
make_commits()
{
	local repo=$1 parent=$2 own=${3:-} p tree

	made_into=$(git_path "$repo" objects)
	rm -rf "$tmp/objects"
	mkdir -p "$tmp/objects"
	rm -f "$tmp/index"
	staged "$repo" read-tree "$parent"
	for p in $(patches); do
		{
			staged "$repo" mailinfo -b --no-scissors --encoding=UTF-8 \
				"$tmp/msg" "$tmp/diff" <"$PATCHES/$p" >"$tmp/info" &&
				{ [ -z "$own" ] || trailers "$p" >>"$tmp/msg"; } &&
				staged "$repo" apply --cached "$tmp/diff" &&
				tree=$(staged "$repo" write-tree) &&
				parent=$(commit "$repo" "$parent" "$tree")
		} 2>"$tmp/err" || {
			reason="$p: $(why "$tmp/err")"
			return 1
		}
	done
	made=$parent
}

trailers()	# trailers TOPIC/NAME.patch
{
	local needs

	needs=$(needs_of "$1")
	printf '\nTopic: %s\n' "${1%%/*}"
	[ -z "$needs" ] || printf 'Needs: %s\n' "$needs"
}

staged()	# staged REPO ARG...: git with an index and new objects in $tmp
{
	GIT_INDEX_FILE=$tmp/index GIT_OBJECT_DIRECTORY=$tmp/objects \
		GIT_ALTERNATE_OBJECT_DIRECTORIES=$made_into \
		git "${strict[@]}" -C "$1" "${@:2}"
}

commit()	# commit REPO PARENT TREE: what mailinfo has put into $tmp
{
	local name email date

	name=$(field Author) email=$(field Email) date=$(field Date)
	{ field Subject; echo; cat "$tmp/msg"; } | git stripspace |
		GIT_AUTHOR_NAME=$name GIT_AUTHOR_EMAIL=$email GIT_AUTHOR_DATE=$date \
		GIT_COMMITTER_NAME=vmlean GIT_COMMITTER_EMAIL=vmlean@localhost \
		GIT_COMMITTER_DATE=$date staged "$1" commit-tree -p "$2" "$3"
}

field()
{
	sed -n "s/^$1: //p" "$tmp/info"
}

keep_objects()
{
	local o

	(cd "$tmp/objects" && find . -type f ! -path './info/*') | while read -r o; do
		mkdir -p "$made_into/${o%/*}"
		[ -e "$made_into/$o" ] || cp "$tmp/objects/$o" "$made_into/$o"
	done
}

# move REPO TO: branch and work tree, only the files that differ
move()
{
	local old

	old=$(git -C "$1" rev-parse HEAD)
	keep_objects
	git "${strict[@]}" -C "$1" reset -q --keep "$2" 2>"$tmp/err" || {
		git "${strict[@]}" -C "$1" reset -q --hard "$old"	# it was clean
		die "$1: $(head -n 1 "$tmp/err")"
	}
}

dirty()		# dirty REPO: the first changed files, if any
{
	git "${strict[@]}" -C "$1" status --porcelain --untracked-files="${2:-normal}" |
		head -n 3 | paste -sd' '
}

git_path()	# git_path REPO NAME: it may be a worktree
{
	(cd "$1" && realpath -m "$(git rev-parse --git-path "$2")")
}

busy()		# busy REPO: in the middle of something?
{
	local d

	for d in rebase-apply rebase-merge MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD; do
		[ ! -e "$(git_path "$1" "$d")" ] ||
			die "$1 is in the middle of something ($d)" "finish or abort that first"
	done
}

have_linux()
{
	[ -d "$LINUX" ] || die "no $LINUX" "run scripts/kernel"
	git_linux rev-parse -q --verify "$BASE_TAG^{commit}" >/dev/null ||
		die "$LINUX has no tag $BASE_TAG" "make distclean, then scripts/kernel"
}

# format TIP DIR: the patches and the series as git writes them, whatever its
# version and configuration: blob ids of one length, hunk headings by a rule of
# our own, a folder a topic, names without numbers.
format()
{
	local name='^[[:alpha:]_$].*' label='![[:alpha:]_][[:alnum:]_]*:[[:space:]]*$'
	local f topic needs to

	rm -rf "$2" "$tmp/flat"
	mkdir -p "$2" "$tmp/flat"
	[ -z "$(git_linux rev-list --merges "$BASE_TAG..$1")" ] ||
		die "$LINUX: $1 has merges, a series cannot" "rebase it onto $BASE_TAG"
	git_linux -c diff.cpp.xfuncname="$label"$'\n'"$name" -c diff.algorithm=myers \
		-c core.abbrev=12 format-patch -q --zero-commit --no-signature --no-stat -N \
		--filename-max-length=64 --no-ext-diff --no-textconv \
		-o "$tmp/flat" "$BASE_TAG..$1"
	{
		echo "# SPDX-License-Identifier: GPL-2.0"
		echo "# The order of the patches; written by scripts/export."
	} >"$2/series"
	for f in "$tmp"/flat/*.patch; do
		[ -e "$f" ] || continue
		topic=$(message "$f" | sed -n 's/^Topic: //p')
		needs=$(message "$f" | sed -n 's/^Needs: //p')
		[ -n "$topic" ] || die "a commit in $LINUX has no topic: $(sed -n 's/^Subject: \[PATCH\] //p' "$f")" \
			"end its message in a line 'Topic: NAME' ($(topics | paste -sd' '))"
		to=$topic/$(basename "$f" | sed -E 's/^[0-9]+-//')
		[ ! -e "$2/$to" ] || die "two commits would be $to" "give one another subject"
		mkdir -p "$2/$topic"
		without_trailers <"$f" >"$2/$to"
		echo "$to${needs:+ # needs $needs}" >>"$2/series"
	done
}

message()	# message PATCH: what stands before the diff
{
	sed '/^diff --git /,$d' "$1"
}

without_trailers()	# filter
{
	awk '
		/^diff --git /	{ diff = 1; if (!clean) print ""; clean = 1 }
		diff		{ print; next }
		/^(Topic|Needs): /	{ next }
		/^$/		{ blank++; next }
				{ for (; blank > 0; blank--) print ""; print }
	'
}

# differing DIR: names of what differs between a fresh export and patches/BASE.
# On another base than the pinned one, line numbers and blob ids differ, so
# only the changes and the order are compared there.
differing()
{
	local f

	if [ "$BASE_VERSION" = "$PINNED_VERSION" ]; then
		(cd "$1" && find . -name '*.patch' -printf '%P\n'
		 cd "$PATCHES" && find . -name '*.patch' -printf '%P\n'
		 echo series) | sort -u | while read -r f; do
			cmp -s "$1/$f" "$PATCHES/$f" || echo "$f"
		done
	else
		diff <(ids "$1" "$(sed '/^#/d; s/ .*//' "$1/series")") <(ids "$PATCHES" "$(patches)") |
			sed -n 's/^[<>].* //p' | sort -u
	fi
}

ids()		# ids DIR NAMES: patch-id and name of each
{
	local p

	for p in $2; do
		echo "$(git patch-id --stable <"$1/$p" | cut -d' ' -f1) $p"
	done
}
