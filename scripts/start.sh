# `npm start`: sets up everything, then starts Mayfly on embedded defaults. A first start with no
# configuration runs the example job. Arguments go to `mayfly up`.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
. "$root/scripts/setup.sh"
. "$root/scripts/debian.sh"
# Without them Mayfly falls back to what this machine can do, and says so itself.
debian_packages "machines as containers" $container_packages ||
  say "going on without them"
exec "$root/mayfly" up "$@"
