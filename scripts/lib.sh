# Sourced by the other scripts: messages, and packages of the system.

# What a program reads goes to stdout; everything meant for a person goes to stderr.
say() { printf '%s\n' "$*" >&2; }

die() {
    local code=$1
    shift
    say "$(basename "$0"): $*"
    exit "$code"
}

# require_packages PACKAGE...: installs Debian packages, or names them in one line and returns 3.
require_packages() {
    if ! command -v apt-get >/dev/null || [[ $(id -u) != 0 ]]; then
        say "$(basename "$0"): please install: $* (Debian's names for them)"
        return 3
    fi
    say "installing $*"
    (
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq update
        apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@"
    ) >&2 || {
        say "$(basename "$0"): apt-get could not install $*; please install them by hand"
        return 3
    }
}
