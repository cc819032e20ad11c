# Sourced by the scripts: tells their --help, and makes the environments they need, when they are missing or out of date.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# --help, before anything is made: the comment that the script begins with, unless it has a help of its own.
case ${1-},${own_help-} in
    -h, | --help,)
        while IFS= read -r line; do
            case $line in '#!'*) continue ;; '#'*) ;; *) break ;; esac
            line=${line#\#}
            printf '%s\n' "${line# }"
        done <"scripts/$(basename "$0")"
        exit
        ;;
esac

# For scripts that take no argument.
no_argument() {
    [ $# = 0 ] || fail "it takes no argument, and not $1: --help says more"
}

# A Python that is new enough, in PYTHON.
find_python() {
    local candidate
    for candidate in python3.11 python3.13 python3.12 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            PYTHON=$candidate
            return
        fi
    done
    fail "Python 3.11 or newer is missing (Debian: apt install python3)"
}

make_venv() {
    find_python
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || fail "Python's venv is missing (Debian: apt install python3-venv)"
    rm -rf "$1"
    "$PYTHON" -m venv "$1" || fail "making $1 failed"
}

# The state of some files, as one word.
fingerprint() {
    find "$@" -name __pycache__ -prune -o -type f ! -name '*.so' ! -name dropin.cache -print0 | sort -z | xargs -0 cksum | cksum | cut -d' ' -f1
}

# With the packages' names while they come.
install() {
    local venv=$1 log
    shift
    log=$(mktemp)
    printf '%s: installing' "$(basename "$0")" >&2
    "$venv/bin/python" -m pip install --progress-bar off --retries 5 "$@" 2>&1 | names_of_packages "$log" >&2
    [ "${PIPESTATUS[0]}" = 0 ] || {
        cat "$log" >&2
        rm -f "$log"
        fail "installing failed, see above"
    }
    rm -f "$log"
}

# pip's output: all of it into a file, and of it what is to be said.
names_of_packages() {
    local line name
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$1"
        case $line in
            'Collecting '*)
                name=${line#Collecting }
                printf ' %s' "${name%%[!A-Za-z0-9._-]*}"
                ;;
            *'Building wheel'*started* | *'Building editable'*started*) printf ', building' ;;
        esac
    done
    echo
}

# .venv: an editable, pure install; "$1" is what extras it needs, such as [dev].
need_pure() {
    local stamp
    stamp="$(fingerprint setup.py pyproject.toml)$1"
    if [ "$(cat .venv/stamp 2>/dev/null)" != "$stamp" ] && [ "$(cat .venv/stamp 2>/dev/null)" != "$(fingerprint setup.py pyproject.toml)[dev]" ]; then
        echo "$(basename "$0"): making .venv, an environment of its own with what it needs from PyPI: once, a minute or two" >&2
        [ -x .venv/bin/python ] || make_venv .venv
        TWISTED_LB_PURE=1 install .venv --editable ".$1"
        echo "$stamp" >.venv/stamp
    fi
}

# .venv-compiled: a wheel built with mypyc, not editable: a .so beside its source would be imported instead of it.
need_compiled() {
    local stamp wheels
    stamp=$(fingerprint setup.py pyproject.toml twisted twisted_lb)
    [ "$(cat .venv-compiled/stamp 2>/dev/null)" != "$stamp" ] || return 0
    echo "$(basename "$0"): building .venv-compiled, with mypyc and a C compiler: some minutes, whenever the source has changed" >&2
    command -v "${CC:-gcc}" >/dev/null || fail "a C compiler is missing (Debian: apt install gcc)"
    find_python
    [ -e "$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
        fail "Python's headers are missing (Debian: apt install python3-dev)"
    [ -x .venv-compiled/bin/python ] || make_venv .venv-compiled
    wheels=$(mktemp -d)
    rm -rf build
    TWISTED_LB_COMPILED=require install .venv-compiled wheel
    TWISTED_LB_COMPILED=require "$PWD/.venv-compiled/bin/python" -m pip wheel --quiet --retries 5 --no-deps -w "$wheels" . ||
        fail "the compiled build failed, see above"
    rm -rf build
    install .venv-compiled --force-reinstall --no-deps "$wheels"/*.whl
    install .venv-compiled "$(echo "$wheels"/*.whl)[dev]"
    rm -rf "$wheels"
    echo "$stamp" >.venv-compiled/stamp
}
