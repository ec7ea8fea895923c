"""What the parsers of options and of YAML fields report, in words that a user knows."""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mtl.errors import NO_TASKS, did_you_mean, list_words, unknown_name


class _Known(NamedTuple):
    """The names that a user may have meant."""

    options: Sequence[str]
    classes: Sequence[str]


def explain_parse_error(message: str, names: Iterable[str], classes: Iterable[str] = ()) -> str:
    """Rewrites a message of jsonargparse: shorter, and with the nearest known name.

    Args:
        message: The parser's message.
        names: Options and fields that exist, such as `--trainer.max_epochs` or `lr`.
        classes: Names of classes that may be given.

    >>> explain_parse_error("Option 'lrr' is not accepted", ["lr", "warmup"])
    "unknown option 'lrr'. Did you mean 'lr'?"
    >>> explain_parse_error("Option 'alpha' is not accepted", ["alpha"])[:53]
    "option 'alpha' belongs to a class that is not chosen "
    >>> explain_parse_error("Expected a typing.Literal['cls', 'mean']. Got value: maen", [])
    "expected 'cls' or 'mean', got 'maen'. Did you mean 'mean'?"
    >>> several = "Multiple subclasses with name A. Give the full class path to avoid ambiguity: "
    >>> explain_parse_error(f"{several}x.A, y.A.", [])
    'several classes are called A; give x.A or y.A'
    >>> other = "Import path does not correspond to a subclass of Balancer"
    >>> explain_parse_error(f'key "balancer": {other} Given value: torch.nn.Linear', [])
    'balancer: torch.nn.Linear is not a subclass of Balancer'
    """
    known = _Known(list(names), list(classes))
    for pattern, explain in _PARSE_ERRORS:
        if match := pattern.search(message):
            return explain(match, known)
    message = message.replace("Not of type Task: ", "")
    return _PARSER_KEY.sub(r"\1: ", message, count=1)


def _unknown_option(match: re.Match[str], known: _Known) -> str:
    name = next(group for group in match.groups() if group)
    if name in known.options:
        return (
            f"option {name!r} belongs to a class that is not chosen here; choose the class first, "
            "with -c FILE or its name, and give its options after it"
        )
    return unknown_name("option", name, known.options, choices=False)


def _unknown_class(match: re.Match[str], known: _Known) -> str:
    message = unknown_name("class", match["name"], known.classes)
    return f"{message} Give any other class by its import path."


def _missing_attribute(match: re.Match[str], known: _Known) -> str:
    path = f"{match['module']}.{match['attribute']}"
    names = [*known.classes, *vars(sys.modules.get(match["module"], object))]
    return f"unknown class {path!r}.{did_you_mean(match['attribute'], names)}"


def _other_kind(match: re.Match[str], known: _Known) -> str:
    return f"{match['key']}: {match['value']} is not a subclass of {match['base']}"


def _missing_module(match: re.Match[str], known: _Known) -> str:
    return (
        f"there is no module {match['module']!r}. `python -m mtl` also finds modules in the "
        "working directory; `mtl` finds installed modules only."
    )


def _unknown_command(match: re.Match[str], known: _Known) -> str:
    return unknown_name("command", match["name"], re.findall(r"[\w-]+", match["commands"]))


def _not_a_choice(match: re.Match[str], known: _Known) -> str:
    choices = re.findall(r"'([^']+)'", match["choices"])
    return _expected(match["key"], list(map(repr, choices)), match["value"], choices)


def _wrong_type(match: re.Match[str], known: _Known) -> str:
    return _expected(match["key"], _types_in_words(match["type"]), match["value"])


def _no_matching_type(match: re.Match[str], known: _Known) -> str:
    # Without null: whoever wants the default omits the option.
    types = [words for words in _types_in_words(match["types"]) if words != "null"]
    return _expected(match["key"], types, match["value"], re.findall(r"'(\w+)'", match["types"]))


def _ambiguous(match: re.Match[str], known: _Known) -> str:
    paths = match["paths"].split(", ")
    return f"several classes are called {match['name']}; give {list_words(paths, 'or')}"


def _nested(match: re.Match[str], known: _Known) -> str:
    return f"{match['key']}: {explain_parse_error(match['nested'], *known)}"


def _no_mapping(match: re.Match[str], known: _Known) -> str:
    return _expected(match["key"], ["a mapping of fields"], match["value"])


def _missing(match: re.Match[str], known: _Known) -> str:
    names = [re.sub(r"^(task|table)\.", "", name) for name in match["names"].split(", ")]
    be, them = ("are", "them") if len(names) > 1 else ("is", "it")
    return f"{list_words(names)} {be} missing; add {them}"


def _expected(
    key: str | None, expected: Sequence[str], value: str, choices: Sequence[str] = ()
) -> str:
    where = f"{key}: " if key else ""
    value = value.strip()
    shown = value if value.startswith(("[", "{")) else repr(value)
    listed = list_words(expected, "or")
    return f"{where}expected {listed}, got {shown}.{did_you_mean(value, choices)}"


def _types_in_words(types: str) -> list[str]:
    """The words for types as jsonargparse prints them.

    >>> _types_in_words("tuple[float, float], <class 'NoneType'>")
    ['two numbers', 'null']
    >>> _types_in_words("typing.Annotated[int, 1 or more], typing.Literal['all', 'few']")
    ['a whole number', "'all'", "'few'"]
    """
    words: list[str] = []
    for found in _TYPE.finditer(types):
        name, inner = found["name"] or found["generic"], found["inner"] or ""
        if name == "typing.Literal":
            words += re.findall(r"'[^']+'", inner)
        elif name == "typing.Annotated":
            words += _types_in_words(inner.partition(",")[0])
        elif name == "tuple" and set(re.split(r",\s*", inner)) == {"float"}:
            words.append({1: "two numbers"}.get(inner.count(","), "a list of numbers"))
        else:
            last = name.rpartition(".")[2]
            words.append(_WORDS.get(last, "a mapping of fields" if "." in name else last))
    return list(dict.fromkeys(words))


def _no_tasks(match: re.Match[str], known: _Known) -> str:
    return NO_TASKS


_TYPE = re.compile(
    r"<class '(?P<name>[\w.]+)'>"
    r"|(?P<generic>[\w.]+)(?:\[(?P<inner>[^\[\]]*(?:\[[^\]]*\][^\[\]]*)*)\])?"
)
_WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "NoneType": "null",
    "Path": "a path",
}
_PARSER_KEY = re.compile(r'^(?:Problem with given class_path.*?)?Parser key "([\w.]+)":\s*')
# Messages of jsonargparse and argparse, and the function that rewrites each; the first pattern that
# matches counts.
_PARSE_ERRORS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], _Known], str]], ...] = tuple(
    (re.compile(pattern, re.DOTALL), explain)
    for pattern, explain in (
        (
            r"unrecognized arguments: (--[^\s=]+)|[Oo]ption '([\w.]+)' is not accepted"
            r"|does not accept option '([\w.]+)'",
            _unknown_option,
        ),
        (
            r'key "(?P<key>[\w.]+)":\s+Does not validate[^[]*\[<class .mtl\.tasks\.[^[]*'
            r"Expected a dot import path string.*Given value: (?P<value>.+)",
            _no_mapping,
        ),
        (
            r'key "(?P<key>[\w.]+)":.*Import path does not correspond to a subclass of '
            r"(?P<base>\w+).*Given value: (?P<value>\S+)",
            _other_kind,
        ),
        (
            r'key "(?P<key>[\w.]+)":.*Expected an import path corresponding to a '
            r"type\[[\w.]*?(?P<base>\w+)\]\. Got value: (?P<value>\S+)",
            _other_kind,
        ),
        (
            r"Multiple subclasses with name (?P<name>\w+)\. Give the full class path to avoid "
            r"ambiguity: (?P<paths>[\w., ]+)\.",
            _ambiguous,
        ),
        (
            r"(?:key \"(?P<key>[\w.]+)\":.*?)?Subtypes: \[typing.Literal\[(?P<choices>[^\]]+)\].*"
            r"Expected a dot import path string: (?P<value>\w+)",
            _not_a_choice,
        ),
        (r"Expected a dot import path string: (?P<name>\w+)", _unknown_class),
        (
            r"class_path '[\w.]+':\s+module '(?P<module>[\w.]+)' has no attribute "
            r"'(?P<attribute>\w+)'",
            _missing_attribute,
        ),
        (
            r"class_path '[\w.]+':\s+No module named '(?P<module>[\w.]+)'",
            _missing_module,
        ),
        (
            r"argument subcommand: invalid choice: '(?P<name>[\w-]+)' \(choose from "
            r"(?P<commands>[^)]+)\)",
            _unknown_command,
        ),
        (r'key "tasks".*Got value: None', _no_tasks),
        (
            r'key "(?P<key>[\w.]+)":\s+Does not validate.*?Problem with given class_path \S+:?\s+'
            r"(?P<nested>.*?)\s+-\s+Expected a ",
            _nested,
        ),
        (
            r'key "(?P<key>[\w.]+)":\s+Does not validate.*Subtypes: \[(?P<types>.*?)\]\s+Errors:'
            r".*Given value: (?P<value>.+)",
            _no_matching_type,
        ),
        (
            r"(?:key \"(?P<key>[\w.]+)\":\s+)?Expected a typing.Literal\[(?P<choices>[^\]]+)\]\. "
            r"Got value: (?P<value>.+)",
            _not_a_choice,
        ),
        (
            r"(?:key \"(?P<key>[\w.]+)\":\s+)?Expected a (?P<type><class '[\w.]+'>)\. "
            r"Got value: (?P<value>.*)",
            _wrong_type,
        ),
        (
            r"key \"(?P<key>[\w.]+)\":\s+Unable to load config ['\"](?P<value>[^'\"]+)",
            _no_mapping,
        ),
        (r"^the following arguments are required: (?P<names>[\w., ]+)$", _missing),
    )
)
