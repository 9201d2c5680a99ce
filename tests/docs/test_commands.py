"""Every command and option of ours that a document names exists."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgeferry.agent.cli import main as edgeferry_agent
from edgeferry.agent.serving.command import ServingOptions, TrialOptions
from edgeferry.fleet.cli import cli as edgeferry
from tests.docs.documents import blocks_of, documents, name_of, spans_of

PROGRAMS = {"edgeferry": edgeferry, "edgeferry-agent": edgeferry_agent}
# Where a shell begins a command: at the start, after a prompt, and behind whatever joins commands.
CALL = re.compile(
    r"(?:^|[$|;&(`] *|: )(?:sudo )?(?P<program>edgeferry(?:-agent)?) (?P<rest>[a-z-][^|;&#<>`)\n]*)", re.MULTILINE
)


def calls_in(code: str) -> Iterator[tuple[str, list[str]]]:
    """Yield every call of a program of ours: its name and its words."""
    for call in CALL.finditer(code.replace("\\\n", " ")):
        yield call["program"], [word.strip("[]\"',.") for word in call["rest"].split()]


def mistake_in(program: str, words: list[str]) -> str:
    """Return what does not exist in a call; empty when everything does."""
    command: click.Command = PROGRAMS[program]
    known = options_of(command)
    with click.Context(command) as context:
        for word in words:
            if word.startswith("-") and word != "-":
                option = word.partition("=")[0]
                if option not in known:
                    return f"{command.name or program} has no option {option}"
            elif isinstance(command, click.Group):
                found = command.get_command(context, word)
                if found is None:
                    return f"{program} has no command {word!r}"
                command = found
                known |= options_of(command)
    return ""


def options_of(command: click.Command) -> set[str]:
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return names | {"--help", "-h"}


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_every_command_and_option_that_a_document_names_exists(document: Path) -> None:
    code = [block.text for block in blocks_of(document)] + list(spans_of(document))

    mistakes = [mistake_in(program, words) for text in code for program, words in calls_in(text)]

    assert [mistake for mistake in mistakes if mistake] == []


def options_of_all(command: click.Command) -> set[str]:
    """Return the options of a command and of all below it."""
    with click.Context(command) as context:
        names = command.list_commands(context) if isinstance(command, click.Group) else []
        below = [found for name in names if (found := command.get_command(context, name))]
    return options_of(command).union(*map(options_of_all, below))


def options_of_processes() -> set[str]:
    fields = [*dataclasses.fields(ServingOptions), *dataclasses.fields(TrialOptions)]
    return {f"--{field.name.replace('_', '-')}" for field in fields}


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_an_option_that_is_named_alone_is_one_of_some_command(document: Path) -> None:
    known = options_of_processes().union(*map(options_of_all, PROGRAMS.values()))

    named = {span.split()[0].partition("=")[0] for span in spans_of(document) if span.startswith("--")}

    assert sorted(named - known) == []


@pytest.mark.parametrize(
    ("code", "mistake"),
    [
        ("edgeferry push build/digits/1 --to all", ""),
        ("$ edgeferry -v broker run --host 0.0.0.0 < file", ""),
        ("edgeferry token pi -p x | edgeferry-agent init --token-file -", ""),
        ("edgeferry push build/digits/1 --too all", "push has no option --too"),
        ("edgeferry pull", "edgeferry has no command 'pull'"),
        ("$ sudo edgeferry-agent remove", "edgeferry-agent has no command 'remove'"),
        ("A=b; edgeferry-agent run --config agent.yaml --fast", "run has no option --fast"),
        ("edgeferry convert m.keras \\\n    --nme x", "convert has no option --nme"),
    ],
)
def test_a_mistake_in_a_document_would_be_found(code: str, mistake: str) -> None:
    found = [mistake_in(program, words) for program, words in calls_in(code)]

    assert [one for one in found if one] == ([mistake] if mistake else [])
    assert found


def test_every_command_is_told_somewhere() -> None:
    code = "\n".join(text for path in documents() for text in [*(b.text for b in blocks_of(path)), *spans_of(path)])
    told = {(program, words[0]) for program, words in calls_in(code)}

    for program, group in PROGRAMS.items():
        missing = [name for name in group.list_commands(click.Context(group)) if (program, name) not in told]
        assert missing == [], f"no document shows {program} {', '.join(missing)}"
