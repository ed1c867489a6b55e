#!/bin/bash
# usage: setup.sh run|build|test|test-full
# Installs what is missing for the purpose: system packages through apt (scripts/packages.txt) and, when there is no
# cargo that is new enough, Debian's own. Does nothing, quickly, when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-run}
purposes="run test test-full"
case $purpose in
run | build) purposes="run" ;;
test) purposes="run test" ;;
test-full) ;;
*) echo "usage: $0 run|build|test|test-full" >&2 && exit 2 ;;
esac

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        echo "setup: this needs root; run as root: $*" >&2
        exit 1
    fi
}

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q ' installed$'; }

install_packages() {
    echo "setup: installing $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 update || {
        echo "setup: a package source could not be refreshed; going on with what is known" >&2
    }
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
        install --no-install-recommends --yes "$@" >/dev/null
}

if ! command -v apt-get >/dev/null; then
    echo "setup: no apt-get here; needed are the packages of scripts/packages.txt and a cargo" >&2
else
    missing=()
    while read -r for_what packages; do
        case " $purposes " in *" $for_what "*) ;; *) continue ;; esac
        for package in ${packages%%#*}; do
            installed "$package" || missing+=("$package")
        done
    done < <(grep -v '^#' scripts/packages.txt)
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
fi

# The toolchain: the cargo on PATH when it is new enough, else Debian's from the security suite.
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
new_enough() {
    local have
    have=$("$1" --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p')
    [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ]
}
new_enough cargo && exit 0

debians="rustc-web cargo-web rust-web-clippy rustfmt-web"
rivals=()
for package in rustc cargo rust-clippy rustfmt rustup; do
    ! installed "$package" || rivals+=("$package")
done
if ! command -v apt-get >/dev/null || ! { apt-cache show cargo-web >/dev/null 2>&1 || { as_root apt-get -qq update && apt-cache show cargo-web >/dev/null 2>&1; }; }; then
    echo "setup: cargo $wanted or newer is needed, and this Debian does not offer cargo-web." >&2
    echo "setup: type: curl --proto '=https' -sSf https://sh.rustup.rs | sh" >&2
    exit 1
fi
if [ ${#rivals[@]} != 0 ]; then
    echo "setup: cargo $wanted or newer is needed; Debian's $debians would replace: ${rivals[*]}" >&2
    answer=n
    [ ! -t 0 ] || read -r -p "setup: replace them? [y/N] " answer
    case $answer in
    [yYsS]*) ;;
    *) echo "setup: type: sudo apt-get install $debians" >&2 && exit 1 ;;
    esac
fi
# shellcheck disable=SC2086
install_packages $debians
hash -r
new_enough cargo || { echo "setup: $(command -v cargo) is still $(cargo --version); put /usr/bin first in PATH" >&2 && exit 1; }
