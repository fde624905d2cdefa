/*
 * What runs in the machine around a repository's own targets, in the words of a POSIX shell.
 * Nothing is put into these texts: what differs comes as arguments.
 */

/**
 * Makes /var/run/ci, which a machine has for itself; $1 is `own`, or `host` where the machine is
 * this host and the folder stands beside the work folder instead. Says what it found, then what mk
 * says of the mkfile.
 */
export const surveyScript = String.raw`
ci=/var/run/ci
if [ "$1" = host ]; then ci=$(dirname -- "$PWD")/ci; fi
mkdir -p -- "$ci/artifacts" "$ci/cache" "$ci/env" || exit 90
echo "ci=$ci"
echo "work=$PWD"
mk=/usr/lib/plan9/bin/mk
[ -x "$mk" ] || mk=$(command -v mk) || exit 91
echo "mk=$mk"
if [ "$1" = host ]; then
  private='mkdir -p -- "$1" && mount --bind -- "$1" "$1"'
  for how in '' '--user --map-root-user'; do
    unshare --mount $how -- sh -c "$private" sh "$ci/private" 2>/dev/null || continue
    echo "private=$how."
    break
  done
fi
"$mk" -n -dp test
`;

/**
 * On this host: gives a command a /var/run/ci of its own, in a mount namespace, so that several at
 * once do not meet there. $1: the folder; $2: more arguments of unshare; the rest: the command.
 * /run is laid out anew from its parts, since a place to mount on may not be ours to make.
 */
export const privateScript = String.raw`
ci=$1 how=$2
shift 2
exec unshare --mount $how -- sh -c '
ci=$1
shift
if ! [ -d /run/ci ]; then
  mkdir -p -- "$ci/private/run" &&
  mount --rbind /run "$ci/private/run" &&
  mount -t tmpfs -o mode=755 mayfly /run || exit 90
  for entry in "$ci"/private/run/* "$ci"/private/run/.[!.]*; do
    place=/run/${"${entry##*/}"}
    if [ -L "$entry" ]; then cp -P -- "$entry" "$place"
    elif [ -d "$entry" ]; then mkdir -p -- "$place" && mount --rbind -- "$entry" "$place"
    elif [ -e "$entry" ]; then : >"$place" && mount --bind -- "$entry" "$place"
    fi
  done
  mkdir -p /run/ci
fi
mount --bind -- "$ci" /run/ci || exit 90
cd -- "$PWD" && exec "$@"
' sh "$ci" "$@"
`;

/** Says which program runs containers in the machine, if any. */
export const containersScript = String.raw`
for tool in podman docker; do
  command -v "$tool" >/dev/null 2>&1 && "$tool" info >/dev/null 2>&1 && { echo "tool=$tool"; break; }
done
exit 0
`;

/** Gets an image that is not there yet. $1: the tool; $2: the image. */
export const pullScript = String.raw`
"$1" image inspect -- "$2" >/dev/null 2>&1 || "$1" pull -- "$2"
`;

/**
 * Runs a command in a container with the work folder where it is. $1: the tool, $2: the image,
 * $3: the container's name, $4: the folder for /var/run/ci, $5: mk's path; then names of variables
 * to pass on, --, and the command. A container outlives its client when that is killed: it is ended.
 */
export const containerScript = String.raw`
tool=$1 image=$2 name=$3 ci=$4 mk=$5
shift 5
variables=
while [ "$1" != -- ]; do variables="$variables --env $1"; shift; done
shift
# mk needs only libc and libm, and few images have it; its own rc and sed come along.
plan9=
[ -d /usr/lib/plan9 ] && plan9="--volume /usr/lib/plan9:/usr/lib/plan9:ro"
end() { "$tool" rm --force "$name" >/dev/null 2>&1; }
trap '"$tool" stop --time 8 "$name" >/dev/null 2>&1' TERM INT
"$tool" run --rm --name "$name" --workdir "$PWD" --volume "$PWD:$PWD" --volume "$ci:/var/run/ci" \
  --volume "$mk:$mk:ro" $plan9 $variables -- "$image" "$@" &
client=$!
wait "$client"
status=$?
while kill -0 "$client" 2>/dev/null; do wait "$client"; status=$?; done
end
exit "$status"
`;
