# `npm test`: sets up everything, then runs every test. See scripts/test.ts for arguments.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
. "$root/scripts/setup.sh"
. "$root/scripts/debian.sh"
# Tests of what is still missing skip and say so. In CI they must not quietly go.
debian_packages "tests with real components" $container_packages \
  $machine_packages $test_packages ||
  [ -z "${CI:-}" ] || fail "what the tests need could not be installed"
exec sh "$root/scripts/run.sh" scripts/test.ts "$@"
