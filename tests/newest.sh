#!/usr/bin/env bash
# The suite, the catalogue and the lessons under the versions that people install today: a Debian
# "forky" in a folder of its own brings the newest Python and a CPU build of torch, pip the rest,
# without constraints. Needs root, debootstrap, 5 GB and, the first time, a quarter of an hour.
#   tests/newest.sh FOLDER [COMMAND …]    default: the suite, the catalogue, the lessons
set -euo pipefail
root=$(realpath -m "${1:?usage: tests/newest.sh FOLDER [COMMAND …]}")
shift
cd "$(dirname "$(realpath "$0")")/.."

# Mounts live in a namespace of this script's own: they end with it, whatever happens.
if [ -z "${DIPTYCH_UNSHARED:-}" ]; then
  [ "$(id -u)" = 0 ] || { echo 'make newest needs root: it makes a Debian in a folder' >&2; exit 1; }
  command -v debootstrap >/dev/null || { echo 'make newest needs debootstrap: apt-get install debootstrap' >&2; exit 1; }
  DIPTYCH_UNSHARED=1 exec unshare --mount --propagation private "$PWD/tests/newest.sh" "$root" "$@"
fi

# A folder of this script's own has this file in it; any other is left alone unless it is empty.
mark=$root/.diptych-newest
if [ ! -f "$mark" ]; then
  [ -z "$(ls -A "$root" 2>/dev/null)" ] && { [ -d "$root" ] || [ ! -e "$root" ]; } ||
    { echo "$root holds something else: name a folder that is empty or not there yet" >&2; exit 1; }
  mkdir -p "$root"
  touch "$mark"
fi
exec 9>> "$mark"
flock -n 9 || { echo "$root is in use by another run" >&2; exit 1; }

if [ ! -e "$root/bootstrapped" ]; then
  mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1 || true)
  find "$root" -mindepth 1 -maxdepth 1 ! -path "$mark" -exec rm -rf {} +  # of a run that broke off
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,git forky "$root" \
    "${mirror:?the apt sources of this machine name no mirror of Debian}" /usr/share/debootstrap/scripts/sid
  touch "$root/bootstrapped"
fi

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
# How this machine reaches Debian and PyPI, if it has ways of its own.
for file in /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt /etc/apt/apt.conf.d/*; do
  [ ! -e "$file" ] || install -D -m 644 "$file" "$root$file"
done
within() { chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  OMP_NUM_THREADS=1 ${SSL_CERT_FILE:+SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt} "$@"; }

if [ ! -e "$root/installed" ]; then
  within apt-get update
  within apt-get install -y --no-install-recommends python3-torch libtorch-dev make g++ python3-dev
  within python3 -m venv --system-site-packages /venv
fi

# A copy of the tree as it stands: nothing that is written there touches this checkout.
rm -rf "$root/diptych"
mkdir "$root/diptych"
git ls-files -z --cached --others --exclude-standard |
  xargs -0 sh -c 'for file; do [ ! -e "$file" ] || printf "%s\0" "$file"; done' sh |
  tar -c --null -T - | tar -x -C "$root/diptych"
if [ ! -e "$root/installed" ] || ! cmp -s pyproject.toml "$root/installed"; then
  within python -m pip install --quiet --disable-pip-version-check -e '/diptych[all,examples,dev]'
  cp pyproject.toml "$root/installed"
fi

run() { echo "== $*"; within sh -c 'cd /diptych && exec "$@"' sh "$@"; }
if [ $# -gt 0 ]; then
  run "$@"
  exit
fi
failed=0
run diptych doctor || failed=1
run python -m pytest -n 2 --dist worksteal || failed=1
run diptych check --out . || failed=1
run python -m examples --all || failed=1
exit $failed
