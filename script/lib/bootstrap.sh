# Sourced by script/demo and script/test: brings a fresh Debian or Ubuntu to where
# Ansible runs. It says what it installs, installs only what is missing, and is quiet
# and quick when nothing is.
#
#   . "$(dirname "$0")/lib/bootstrap.sh"
#   bootstrap_packages podman openssh-client         # Debian packages
#   bootstrap_venv requirements.txt [more.txt ...]   # $LIFEBOAT_ROOT/.venv, put first in PATH
#
# Sets LIFEBOAT_ROOT, changes into it, and points Ansible at the project's ansible.cfg.
# shellcheck shell=bash

set -euo pipefail

LIFEBOAT_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
export LIFEBOAT_ROOT
cd "$LIFEBOAT_ROOT"
# Named outright: Ansible ignores a configuration it merely finds in a world-writable folder.
export ANSIBLE_CONFIG="$LIFEBOAT_ROOT/ansible.cfg"

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  _bold=$'\033[1m' _red=$'\033[31m' _plain=$'\033[0m'
else
  _bold='' _red='' _plain=''
fi

say() { printf '%s==>%s %s\n' "$_bold" "$_plain" "$*"; }
note() { printf '    %s\n' "$*"; }
die() {
  printf '%serror:%s %s\n' "$_red" "$_plain" "$1" >&2
  shift
  local line
  for line in "$@"; do printf '       %s\n' "$line" >&2; done
  exit 2
}

# Run a command as root: directly, or by sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo -- "$@"
  else
    die "this step needs root, and there is no sudo: $*" "Run the script as root, or install sudo."
  fi
}

_package_installed() {
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

bootstrap_packages() {
  command -v apt-get >/dev/null 2>&1 ||
    die "this is neither Debian nor Ubuntu (no apt-get)." "Install these yourself and run the script again: $*"
  local package missing=()
  for package in "$@"; do
    _package_installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "Installing Debian packages: ${missing[*]}"
  as_root apt-get -qq update || note "the package lists could not all be refreshed; going on with what is there"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 \
    install --no-install-recommends "${missing[@]}" >/dev/null ||
    die "apt-get could not install: ${missing[*]}" "Its own message is above. Is the package mirror in reach?"
}

# ansible-core 2.19 and newer need Python 3.11 on the machine that runs them.
_controller_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

bootstrap_venv() {
  local python version stamp file requirements=() venv="$LIFEBOAT_ROOT/.venv"
  python="$(_controller_python)" ||
    die "Python 3.11 or newer is needed to run Ansible." "On Ubuntu 22.04: apt-get install python3.11 python3.11-venv"
  version="$("$python" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
  # Asked of Python, not of dpkg: a Python from elsewhere brings its own ensurepip.
  "$python" -I -c 'import ensurepip, venv' 2>/dev/null || bootstrap_packages "python$version-venv"

  stamp="$({ echo "$python $version"; cat -- "$@"; } | sha256sum | cut -d' ' -f1)"
  # One mark per set of files, so that script/demo and script/test do not undo each other's.
  if ! [ -e "$venv/.lifeboat/$stamp" ]; then
    for file in "$@"; do requirements+=(--requirement "$file"); done
    say "Installing Python packages into .venv (from $*)"
    [ -x "$venv/bin/python" ] && [ "$("$venv/bin/python" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$version" ] ||
      "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip --quiet --disable-pip-version-check install "${requirements[@]}" ||
      die "pip could not install the Python packages of $*." "Its own message is above. Is the package index in reach?"
    mkdir -p "$venv/.lifeboat"
    touch "$venv/.lifeboat/$stamp"
  fi
  export PATH="$venv/bin:$PATH"
}
