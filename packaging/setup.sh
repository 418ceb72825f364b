#!/usr/bin/env bash
# Installs what this machine lacks for building, running and testing. Asks the package manager only for what is missing,
# so a second run needs neither root nor the network.
#   packaging/setup.sh            PostgreSQL, build tools, Python with pip, curl
#   packaging/setup.sh --check    also what `make check` uses (shellcheck)
set -euo pipefail

missing=()
need() { # package, then a test that succeeds where it is not needed
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}
has_postgres() {
  command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' || compgen -G '/usr/pgsql-*/bin/initdb'
}

if ! command -v cargo >/dev/null; then
  echo "setup: no Rust toolchain: install one with rustup (https://rustup.rs), then run this again" >&2
  exit 1
fi
need postgresql has_postgres
need build-essential cc --version
need python3 python3 --version
need python3-pip python3 -m pip --version
need curl curl --version
if [ "${1:-}" = --check ]; then need shellcheck shellcheck --version; fi
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "setup: this machine lacks: ${missing[*]} (Debian's names); install them with its package manager" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup: as root, run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
