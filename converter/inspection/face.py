"""Prints a page or a tree: with rich at a terminal, as plain text elsewhere. NO_COLOR is obeyed, by rich."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from edgeferry.converter.inspection.page import Branch, Page, Section, printable

__all__ = ["print_page", "print_tree"]

_INDENT = "  "
_MARKS = ">!"  # of a column's name, see `Section`


def print_page(page: Page) -> None:
    """Print everything that is said of a model to standard output."""
    page = _printable_page(page)
    if sys.stdout.isatty():
        _print_rich(page)
        return
    click.echo(page.title)
    _plain_rows([(f"{label}:", value) for label, value in page.facts])
    for section in filter(lambda one: one.rows, page.sections):
        click.echo(f"\n{section.title}")
        _plain_rows([tuple(name.lstrip(_MARKS) for name in section.columns), *section.rows], _right(section))
        if section.note:
            click.echo(f"{_INDENT}({section.note})")
    for warning in page.warnings:
        click.echo(f"\n! {warning}")


def print_tree(title: str, branches: Iterable[Branch]) -> None:
    """Print a tree to standard output."""
    title, branches = printable(title), [_printable_branch(branch) for branch in branches]
    if sys.stdout.isatty():
        tree = Tree(Text(title, style="bold"), guide_style="dim")
        for branch in branches:
            _grow(tree, branch)
        Console().print(tree)
        return
    click.echo(title)
    _plain_branches(branches, "")


def _printable_page(page: Page) -> Page:
    return Page(
        printable(page.title),
        tuple((label, printable(value)) for label, value in page.facts),
        tuple(
            replace(section, rows=tuple(tuple(map(printable, row)) for row in section.rows))
            for section in page.sections
        ),
        tuple(map(printable, page.warnings)),
    )


def _printable_branch(branch: Branch) -> Branch:
    children = tuple(map(_printable_branch, branch.children))
    return Branch(printable(branch.text), printable(branch.aside), children)


def _print_rich(page: Page) -> None:
    console = Console()
    console.print(Text(page.title, style="bold"))
    grid = Table.grid(padding=(0, 2))
    for label, value in page.facts:
        grid.add_row(Text(f"{_INDENT}{label}", style="dim"), Text(value))
    console.print(grid, "")
    for section in filter(lambda one: one.rows, page.sections):
        console.print(_rich_table(section))
    for warning in page.warnings:
        console.print(Text(f"! {warning}", style="yellow"))


def _rich_table(section: Section) -> Table:
    table = Table(
        title=section.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=section.note or None,
        caption_justify="left",
    )
    for name in section.columns:
        table.add_column(
            name.lstrip(_MARKS),
            justify="right" if name.startswith(">") else "left",
            overflow="fold",
            no_wrap=name[:1] in _MARKS and name != "",
        )
    for row in section.rows:
        table.add_row(*map(escape, row))
    return table


def _right(section: Section) -> list[int]:
    return [at for at, name in enumerate(section.columns) if name.startswith(">")]


def _plain_rows(rows: Sequence[tuple[str, ...]], right: Sequence[int] = ()) -> None:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))] if rows else []
    for row in rows:
        cells = [
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo(f"{_INDENT}{'  '.join(cells)}".rstrip())


def _grow(tree: Tree, branch: Branch) -> None:
    line = Text(branch.text)
    if branch.aside:
        line.append(f"  {branch.aside}", style="dim")
    below = tree.add(line)
    for child in branch.children:
        _grow(below, child)


def _plain_branches(branches: Sequence[Branch], lead: str) -> None:
    for at, branch in enumerate(branches):
        is_last = at == len(branches) - 1
        aside = f"  ({branch.aside})" if branch.aside else ""
        click.echo(f"{lead}{'`-- ' if is_last else '|-- '}{branch.text}{aside}")
        _plain_branches(branch.children, lead + ("    " if is_last else "|   "))
