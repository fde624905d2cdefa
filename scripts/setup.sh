# Brings what Mayfly runs on: the npm packages of package-lock.json, and a Node of 24 or newer.
#
#   sh scripts/setup.sh                  does it; silent when there is nothing to do
#   root=…; . "$root/scripts/setup.sh"   the same, and leaves the Node to use in $node
#
# POSIX sh. Nothing to do costs one `cmp` and no start of Node.

say() { printf 'mayfly: %s\n' "$*" >&2; }
fail() {
  say "$@"
  exit 1
}

case ${0##*/} in
setup.sh) root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1 ;;
esac

# A copy of the lockfile as it was at the last install that went well to its end.
installed=$root/node_modules/.mayfly-package-lock.json

is_installed() { cmp -s -- "$root/package-lock.json" "$installed"; }

# Lets one set-up of this checkout in at a time. The kernel lets go of a flock however its holder
# ends; npm inherits it, so that an npm whose shell was killed is still waited for.
take_turn() {
  mkdir -p -- "$root/.setup" 2>/dev/null && (: >>"$root/.setup/flock") 2>/dev/null ||
    fail "cannot write to $root. Let its owner run 'sh scripts/setup.sh' there once."
  if command -v flock >/dev/null 2>&1; then
    exec 9>"$root/.setup/flock" || exit 1
    flock -n 9 && return
    say "waiting for another set-up of this checkout"
    flock -w 900 9 || fail "the other set-up has not ended in 15 minutes. End it, then try again."
    return
  fi
  owner=$root/.setup/owner
  seconds=0
  until mkdir -- "$owner" 2>/dev/null; do
    pid=$(cat -- "$owner/pid" 2>/dev/null)
    if [ -n "$pid" ] && ! ps -p "$pid" >/dev/null 2>&1; then
      rm -rf -- "$owner"
      continue
    fi
    [ "$seconds" -gt 0 ] || say "waiting for another set-up of this checkout"
    seconds=$((seconds + 1))
    [ "$seconds" -lt 900 ] ||
      fail "the other set-up has not ended in 15 minutes. If there is none, remove $owner."
    sleep 1
  done
  echo $$ >"$owner/pid"
  trap 'rm -rf -- "$owner"' EXIT
}

install_packages() {
  command -v npm >/dev/null 2>&1 ||
    fail "npm is missing. Install Node.js 20 or newer with npm (Debian: apt-get install npm)."
  say "installing the npm packages of package-lock.json"
  # The lockfile may change while npm works (a git pull): what counts is what npm has read.
  cp -- "$root/package-lock.json" "$root/.setup/package-lock.json" || exit 1
  (cd -- "$root" &&
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error \
      --include=dev --include=optional) </dev/null >/dev/null ||
    fail "npm could not install them (its reason is above). Mend that, then run the same again."
  # A Node for another C library (Alpine's) installs but cannot start.
  "$root/node_modules/.bin/node" -v >/dev/null 2>&1 || rm -f -- "$root/node_modules/.bin/node"
  mv -- "$root/.setup/package-lock.json" "$installed" || exit 1
}

is_installed || (
  take_turn
  is_installed || install_packages
) || exit 1

# The Node that came with the packages, else the one on the PATH when it is new enough.
node=$root/node_modules/.bin/node
if ! [ -x "$node" ]; then
  node=$(command -v node) || node=
  version=$([ -z "$node" ] || "$node" -v 2>/dev/null)
  major=${version#v}
  major=${major%%.*}
  [ "${major:-0}" -ge 24 ] 2>/dev/null ||
    fail "needs Node.js 24 or newer${version:+, and this is $version}. Install it from https://nodejs.org/ and put it on the PATH."
fi
