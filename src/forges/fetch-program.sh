# Brings a runner program that the image does not hold. Stands before each forge's own start script,
# which says how it fails (`fail`).

machine() {
  case $(uname -m) in
  x86_64 | amd64) processor=x64 ;;
  aarch64 | arm64) processor=arm64 ;;
  *) processor=$(uname -m) ;;
  esac
  case $(uname -s) in
  Linux) echo "linux-$processor" ;;
  Darwin) echo "darwin-$processor" ;;
  *) echo "$(uname -s)-$processor" ;;
  esac
}

digest() {
  if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1
}

# fetch_verified WHAT MISSING TARGET: what MAYFLY_RUNNER_PROGRAMS names for this machine, and only if it
# is the very one. WHAT it is called and what is MISSING are for a person to read.
fetch_verified() {
  wanted=$(machine)
  line=$(printf %s "${MAYFLY_RUNNER_PROGRAMS:-}" | grep "^$wanted ") ||
    fail "no $2, and no address to get one for $wanted from: set programs"
  sha256=$(echo "$line" | cut -d ' ' -f 2)
  url=$(echo "$line" | cut -d ' ' -f 3)
  if command -v curl >/dev/null; then
    curl -fsSL --retry 3 --max-time 300 -o "$3" -- "$url" >&2
  elif command -v wget >/dev/null; then
    wget -q -T 300 -O "$3" -- "$url" >&2
  else
    fail "neither curl nor wget is here to get the $1 by"
  fi || fail "the $1 could not be got from $url"
  [ "$(digest "$3")" = "$sha256" ] ||
    fail "what came from $url is not what the configuration's sha256 says"
}
