# `npm test`: sets up everything, then runs every test. See scripts/test.ts for arguments.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
. "$root/scripts/setup.sh"
. "$root/scripts/debian.sh"
# Tests that need what is still missing skip and say so. In CI they must not quietly go.
debian_packages "tests with real components" $container_packages $test_packages ||
  [ -z "${CI:-}" ] || [ "$(id -u)" -ne 0 ] || [ -n "${MAYFLY_NO_INSTALL:-}" ] ||
  fail "not all of what the tests need could be installed"
exec sh "$root/scripts/run.sh" scripts/test.ts "$@"
