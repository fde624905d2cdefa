# For `. "$root/scripts/debian.sh"`: the Debian packages that containers, machines of QEMU and some
# tests need.

container_packages="podman runc netavark aardvark-dns iptables mmdebstrap uidmap slirp4netns
  fuse-overlayfs git perl"
# Beside those of containers.
case $(uname -m) in
aarch64) machine_packages=qemu-system-arm firmware=qemu-efi-aarch64 ;;
*) machine_packages=qemu-system-x86 firmware=ovmf ;;
esac
machine_packages="$machine_packages squashfs-tools kmod util-linux xz-utils"
test_packages="postgresql chromium fonts-dejavu-core faketime cpio e2fsprogs iproute2 curl
  python3-venv fdisk dosfstools mtools $firmware"

# What it prints is shown only when it fails.
apt() {
  mkdir -p -- "$root/.setup"
  apt_log=$root/.setup/apt.log
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" \
    </dev/null >"$apt_log" 2>&1 && return
  tail -n 20 "$apt_log" >&2
  return 1
}

# Prints those of the given packages that are not installed, on one line.
missing_packages() {
  there=$(dpkg-query -W -f ' ${Package}:${db:Status-Status} ' "$@" 2>/dev/null)
  for package in "$@"; do
    case $there in
    *" $package:installed "*) ;;
    *) printf '%s ' "$package" ;;
    esac
  done
}

# Prints those of the given packages that this release of Debian or Ubuntu has.
available_packages() {
  for package in "$@"; do
    apt-cache policy "$package" 2>/dev/null | grep -q 'Candidate: [^(]' && printf '%s ' "$package"
  done
}

# `debian_packages WHAT_NEEDS_THEM PACKAGE...`: installs what is missing, as root on Debian or
# Ubuntu; says what is missing otherwise. MAYFLY_NO_INSTALL=1 installs nothing. False when it tried
# to install and could not.
debian_packages() {
  need=$1
  shift
  command -v dpkg-query >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1 || return 0
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" -ne 0 ] || [ -n "${MAYFLY_NO_INSTALL:-}" ]; then
    say "$need would need: sudo apt-get install --no-install-recommends $missing"
    return 0
  fi
  say "installing Debian packages for $need (MAYFLY_NO_INSTALL=1 does without): $missing"
  apt update && lists=new || lists=old
  # Word splitting is meant, here and below: these are lists of package names.
  available=$(available_packages $missing)
  # Debian's PostgreSQL makes a cluster and starts it when installed; nobody asked us for that.
  case " $available" in
  *" postgresql "*) without_a_cluster ;;
  esac
  [ -z "$available" ] || apt install --yes --no-install-recommends $available || return 1
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  say "going on without what this system does not have: $missing"
  [ "$lists" = new ]
}

without_a_cluster() {
  [ -n "$(missing_packages postgresql-common)" ] || return 0
  apt install --yes --no-install-recommends postgresql-common || return 0
  sed -i 's/^#*create_main_cluster.*/create_main_cluster = false/' \
    /etc/postgresql-common/createcluster.conf
}
