"""`lbctl completion bash|zsh|fish`: scripts by which shells complete verbs, options and files, and names by asking the daemon."""

from argparse import Action, ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from twisted_lb.ctl.failure import Status
from twisted_lb.ctl.session import Session, Verb

SHELLS: Final = ("bash", "zsh", "fish")
# What may stand somewhere: names that the daemon knows, files, one of some words (`words:a b`), or what only the user knows.
BACKENDS, POOLS, FILES, VALUE = "backends", "pools", "files", "value"
# Arguments by what their parser calls them -> what they are.
_MEANT: Final = {"names": BACKENDS, "backend": BACKENDS, "pool": POOLS}


@dataclass(frozen=True)
class Option:
    """An option: how it is typed, what its value is, empty where it has none or need not have one, and what it is for."""

    names: tuple[str, ...]
    wants: str
    said: str


@dataclass(frozen=True)
class Shape:
    """What may be typed behind a verb: its options, and what each argument is; `many`: the last one is so again and again."""

    verb: str
    summary: str
    options: tuple[Option, ...]
    arguments: tuple[str, ...]
    many: bool


def shape_of(verb: Verb, parser: ArgumentParser) -> Shape:
    """What may be typed behind a verb, by its parser."""
    actions = [one for one in parser._actions if one.dest != "help"]  # argparse has no other way to ask
    places = [one for one in actions if not one.option_strings]
    options = tuple(
        Option(tuple(one.option_strings), _wants(one), (one.help or "").partition(";")[0])
        for one in actions
        if one.option_strings
    )
    return Shape(
        verb.name, verb.summary, options, tuple(map(_wants, places)), any(one.nargs in ("+", "*") for one in places)
    )


def _wants(action: Action) -> str:
    if action.nargs == 0 or (action.option_strings and action.nargs == "?"):
        return ""
    if action.choices is not None:
        return f"words:{' '.join(map(str, action.choices))}"
    return FILES if action.metavar == "FILE" else _MEANT.get(action.dest, VALUE)


def completion(verbs: Callable[[], Mapping[str, Verb]], parser_of: Callable[[Verb], ArgumentParser]) -> Verb:
    """The verb; `verbs` and `parser_of` are those that are completed, itself among them."""

    def run(session: Session, arguments: Namespace) -> int:
        shapes = [shape_of(verb, parser_of(verb)) for verb in verbs().values()]
        made = {"bash": bash, "zsh": zsh, "fish": fish}[arguments.shell](shapes)
        if session.console.as_json:
            session.console.say_json({"shell": arguments.shell, "script": made})
        else:
            session.console.say(*made.rstrip("\n").split("\n"))
        return Status.DONE

    return Verb("completion", "completion SHELL", "a script that completes names: bash, zsh, fish", _arguments, run)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


def _cases(rows: Iterable[tuple[str, str]], indent: str = "        ") -> str:
    """Rows of a `case`, those with the same outcome as one."""
    found: dict[str, list[str]] = {}
    for pattern, outcome in rows:
        found.setdefault(outcome, []).append(pattern)
    return "\n".join(f"{indent}{' | '.join(patterns)}) want='{outcome}' ;;" for outcome, patterns in found.items())


def _words(shapes: Iterable[Shape]) -> dict[str, str]:
    """What both shells of the Bourne family fill in: rows of options with a value, of arguments, and of all options."""
    shapes = list(shapes)
    common = [one for one in shapes[0].options if all(one in other.options for other in shapes)]
    values = [(f"*:{name}", one.wants) for one in common if one.wants for name in one.names]
    for shape in shapes:
        own = [one for one in shape.options if one not in common and one.wants]
        values += [(f"{shape.verb}:{name}", one.wants) for one in own for name in one.names]
    arguments = []
    for shape in shapes:
        last = len(shape.arguments) - 1
        for at, wants in enumerate(shape.arguments):
            # Of several in a row each may be the last one, behind which a number may stand.
            many = shape.many and wants == BACKENDS
            arguments.append((f"{shape.verb}:{'*' if many else at}", wants))
            if many and at < last:
                break
    names = "\n".join(name for one in common for name in one.names)
    return {
        "values": _cases(values),
        "arguments": _cases(arguments),
        "options": _cases(
            (shape.verb, f"words:{' '.join(name for one in shape.options for name in one.names)}") for shape in shapes
        ),
        "verbs": " ".join([*(shape.verb for shape in shapes), *names.split("\n"), "--help", "--version"]),
    }


def bash(shapes: Iterable[Shape]) -> str:
    """The script for bash: `source <(lbctl completion bash)`."""
    return _filled(_BASH, _words(shapes))


def zsh(shapes: Iterable[Shape]) -> str:
    """The script for zsh: a file `_lbctl` in a folder of `fpath`."""
    return _filled(_ZSH, _words(shapes))


def _filled(script: str, words: Mapping[str, str]) -> str:
    for name, text in words.items():
        script = script.replace(f"%{name}%", text)
    return script


_KNOWN: Final = """\
    for ((i = %first%; i < %end%; i++)); do
        want=
        case "$verb:${typed[i]}" in
%values%
        esac
        if [[ -n $want ]]; then
            case ${typed[i]} in --admin | --token-file) where+=("${typed[i]}" "${typed[i + 1]}") ;; esac
            ((i + 1 < %end%)) && want=
            ((i += 1))
        elif [[ ${typed[i]} == -* ]]; then
            :
        elif [[ -z $verb ]]; then
            verb=${typed[i]}
        else
            ((at += 1))
        fi
    done
    if [[ -n $want ]]; then
        :
    elif [[ -z $verb ]]; then
        want='words:%verbs%'
    elif [[ $cur == -* ]]; then
        case $verb in
%options%
        esac
    else
        case "$verb:$at" in
%arguments%
        esac
    fi
"""

_BASH: Final = (
    """\
# Completion of lbctl for bash: source <(lbctl completion bash)
_lbctl() {
    # By white space, and not at the colons of addresses as bash does.
    local line=${COMP_LINE:0:COMP_POINT} verb= want= at=0 i cur one breaks prefix
    local -a typed where=()
    read -ra typed <<<"$line"
    cur=${line##*[[:space:]]}
    [[ -n $cur ]] && unset "typed[$((${#typed[@]} - 1))]"
"""
    + _KNOWN.replace("%first%", "1").replace("%end%", "${#typed[@]}")
    + """\
    COMPREPLY=()
    while IFS= read -r one; do
        [[ -n $one && $one == "$cur"* ]] || continue
        [[ $want == files ]] || printf -v one %q "$one"
        COMPREPLY+=("$one")
    done < <(_lbctl_known "$want" "$cur" ${where[@]+"${where[@]}"})
    [[ $want != files ]] || compopt -o filenames 2>/dev/null
    breaks=${COMP_WORDBREAKS//[^:=@]/}
    if [[ -n $breaks && $cur == *["$breaks"]* ]]; then
        prefix=${cur%"${cur##*["$breaks"]}"}
        COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    fi
}
_lbctl_known() {
    local want=$1 cur=$2
    shift 2
    case $want in
        backends) lbctl "$@" backends -q ;;
        pools) lbctl "$@" backends -q | sed 's,/.*,,' | sort -u ;;
        files) compgen -f -- "$cur" ;;
        words:*) printf '%s\\n' ${want#words:} ;;
    esac 2>/dev/null </dev/null
}
complete -F _lbctl lbctl
"""
)

_ZSH: Final = (
    """\
#compdef lbctl
# Completion of lbctl for zsh: lbctl completion zsh >_lbctl, in a folder of fpath.
_lbctl() {
    local verb= want= at=0 i cur=${words[CURRENT]}
    local -a typed where
    typed=("${(@)words[1,CURRENT-1]}")
"""
    + _KNOWN.replace("%first%", "2").replace("%end%", "CURRENT")
    + """\
    case $want in
        backends) compadd -- ${(f)"$(lbctl $where backends -q 2>/dev/null </dev/null)"} ;;
        pools) compadd -- ${(uf)"$(lbctl $where backends -q 2>/dev/null </dev/null | sed 's,/.*,,')"} ;;
        files) _files ;;
        words:*) compadd -- ${=want#words:} ;;
    esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _lbctl "$@"
else
    compdef _lbctl lbctl
fi
"""
)


def fish(shapes: Iterable[Shape]) -> str:
    """The script for fish: `lbctl completion fish >~/.config/fish/completions/lbctl.fish`."""
    lines = [
        "# Completion of lbctl for fish: lbctl completion fish >~/.config/fish/completions/lbctl.fish",
        "complete -c lbctl -f",
    ]
    for shape in shapes:
        lines.append(f"complete -c lbctl -n __fish_use_subcommand -a {shape.verb} -d {_quoted(shape.summary)}")
        there = f"-n '__fish_seen_subcommand_from {shape.verb}'"
        for wants in dict.fromkeys(shape.arguments):
            lines += [f"complete -c lbctl {there} {one}" for one in _in_fish(wants)]
        for option in shape.options:
            typed = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            value = ["-r", *_in_fish(option.wants)] if option.wants else []
            lines.append(" ".join(["complete -c lbctl", there, typed, *value, "-d", _quoted(option.said)]))
    return "\n".join(lines) + "\n"


def _in_fish(wants: str) -> list[str]:
    asked = "lbctl backends -q 2>/dev/null"
    found = {BACKENDS: f"-a '({asked})'", POOLS: f"-a '({asked} | string split -f 1 /)'", FILES: "-F", VALUE: ""}
    said = f"-a {_quoted(wants.removeprefix('words:'))}" if wants.startswith("words:") else found.get(wants, "")
    return [said] if said else []


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
