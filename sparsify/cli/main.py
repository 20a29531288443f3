"""The `sparsify` console script: one verb a file, and one place where errors become exit codes."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from importlib import import_module
from typing import Annotated

import typer
from typer._click.exceptions import ClickException  # typer carries its own click, and no public name for this

from sparsify.errors import RecipeError, SparsifyError

# verb -> one line for `--help`. Each verb lives in `sparsify/cli/VERB.py` as the function `command`.
VERBS = {
    "init": "Write a commented starter recipe.",
    "ls": "List recipes, models, datasets, criteria, targets.",
    "validate": "Check a recipe and report every fault.",
    "schema": "Print the recipe's JSON Schema.",
    "run": "Run a recipe, whole or from where it stopped.",
    "prune": "Prune a trained network to a target.",
    "export": "Export a run's ticket, or an ONNX file, to a target.",
    "bench": "Time ONNX files side by side.",
    "gate": "Hold a run against its recipe's gate.",
    "verify": "Check every digest of a run folder.",
    "inspect": "Show what is inside a run, a ticket or an ONNX file.",
    "doctor": "Say what can run on this machine, and why not.",
}

app = typer.Typer(
    name="sparsify",
    help="Are your network's pruned weights dead weight? Find tickets, probe them, deploy them, measure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its panels cost twice the start-up of all the rest
)


def _version(asked: bool) -> None:
    if asked:
        from sparsify import __version__

        print(f"sparsify {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None: ...


for _verb, _help in VERBS.items():
    app.command(_verb, help=_help)(import_module(f"sparsify.cli.{_verb}").command)


def main() -> None:
    """Run the command line and exit as `sparsify.errors` says; 1, with a traceback, is a bug of ours."""
    try:
        sys.exit(app(standalone_mode=False))
    except ClickException as error:  # the parser's own: usage
        error.message = error.message.removeprefix("Value error, ")  # what pydantic, within it, puts before
        _document({"error": error.format_message(), "exit_code": error.exit_code})
        error.show()
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(_report("interrupted", 130))
    except RecipeError as error:
        sys.exit(_report(str(error), error.exit_code, faults=[str(fault) for fault in error.faults]))
    except SparsifyError as error:
        sys.exit(_report(str(error), error.exit_code))
    except OSError as error:
        if error.errno == errno.EPIPE:
            sys.exit(128 + signal.SIGPIPE)
        sys.exit(_report(f"{error.strerror or error}: {error.filename or 'no file named'}", 9))


def _report(message: str, exit_code: int, **more: object) -> int:
    _document({"error": message, "exit_code": exit_code, **more})
    print(f"sparsify: {message}" if exit_code != 3 else message, file=sys.stderr)
    return exit_code


def _document(told: dict[str, object]) -> None:
    """One JSON document, where it was asked for; whoever asked may be gone, and the exit code is the same then."""
    if "--json" not in sys.argv:
        return
    try:
        print(json.dumps(told), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at the end
