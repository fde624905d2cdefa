# Sets up, then runs a program of this repository with the right Node, from the repository's root:
#   sh scripts/run.sh FILE [ARGUMENTS]
# npm scripts begin with this because npm starts them on whatever Node is there.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
. "$root/scripts/setup.sh"
cd -- "$root" || exit 1
PATH=$root/node_modules/.bin:$PATH exec "$node" "$@"
