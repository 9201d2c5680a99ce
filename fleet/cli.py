"""`edgeferry`: one group of lazily loaded commands for the converter and the fleet.

Decides which module holds which command, so that `--help` loads none of them, and turns every error that is fit to
show into one line and an exit code: 0 done, 1 failed, 2 usage, 3 pending, 78 configuration, 130 interrupted.
"""

import importlib
import logging
import sys
from typing import Any

import click

from edgeferry.fleet.errors import EXIT_FAILED, FleetError

__all__ = ["cli", "main"]

_EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells say it

# name -> (module, what the list of commands says of it)
_COMMANDS = {
    "demo": ("edgeferry.fleet.commands.demo", "Go the whole way on this machine, with two devices as processes."),
    "init": ("edgeferry.fleet.commands.init", "Make a new fleet: keys, signed metadata, inventory and settings."),
    "broker": ("edgeferry.fleet.commands.broker", "Run an embedded MQTT broker, or make a mosquitto for the fleet."),
    "token": ("edgeferry.fleet.commands.token", "Add a device and print what its agent needs to join."),
    "enroll": (
        "edgeferry.fleet.commands.enroll",
        "Install the agent on a device over ssh, and wait until it is online.",
    ),
    "bundle": ("edgeferry.fleet.commands.bundle", "Write what installs the agent on a device without the internet."),
    "convert": ("edgeferry.converter.cli", "Turn a trained model into an artifact for each kind of device."),
    "train": ("edgeferry.converter.commands.train", "Train a model to be small, or to live with int8."),
    "inspect": ("edgeferry.converter.commands.inspect", "Tell what is inside a model, and what a device cannot run."),
    "predict": ("edgeferry.converter.commands.predict", "Run samples through a model on this machine."),
    "verify": ("edgeferry.converter.commands.verify", "Make an artifact's model again and compare it byte for byte."),
    "cache": ("edgeferry.converter.commands.cache", "List or prune what conversions remember of their work."),
    "push": ("edgeferry.fleet.commands.push", "Bring a version of a model to devices and wait until it runs."),
    "promote": ("edgeferry.fleet.commands.promote", "Make the canary of a model the version that answers."),
    "rollback": (
        "edgeferry.fleet.commands.rollback",
        "Take a canary back, or go back to an earlier version.",
    ),
    "status": ("edgeferry.fleet.commands.status", "Show what devices should run of a model, and what they do run."),
    "infer": ("edgeferry.fleet.commands.infer", "Run samples through a model on a device."),
    "bench": ("edgeferry.fleet.commands.bench", "Measure how fast a model is on a device."),
    "devices": ("edgeferry.fleet.commands.devices", "List the devices of the fleet and how they are."),
    "monitor": ("edgeferry.fleet.commands.monitor", "Watch the fleet: telemetry and models, live."),
    "origin": ("edgeferry.fleet.commands.origin", "Serve models to devices, for as long as it runs."),
    "keys": ("edgeferry.fleet.commands.keys", "See, lock, replace and back up the keys that sign for this fleet."),
    "profiles": ("edgeferry.fleet.commands.profiles", "List the kinds of devices that models are made for."),
}


class LazyGroup(click.Group):
    """A group that imports the module of a command when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which they are needed."""
        return [*_COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, imported now."""
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        command = getattr(importlib.import_module(_COMMANDS[cmd_name][0]), cmd_name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in _COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edgeferry")
@click.option("-v", "--verbose", count=True, help="Say more on standard error; twice for everything.")
def cli(verbose: int) -> None:
    """Carry trained models to edge devices: convert, sign, push over MQTT, prove, watch.

    Begin with `edgeferry init`, then `edgeferry broker run` and `edgeferry token ID -p PROFILE`.
    """
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code; nobody sees a traceback for what is not a mistake of ours."""
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        result: Any = cli.main(args=arguments, prog_name="edgeferry", standalone_mode=False)
    except FleetError as err:
        return _complain(str(err), err.exit_code)
    except click.ClickException as err:
        err.show()
        return err.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted", _EXIT_INTERRUPTED)
    except OSError as err:
        where = f"{err.filename}: " if err.filename else ""
        return _complain(f"{where}{err.strerror or err}", EXIT_FAILED)
    return result if isinstance(result, int) else 0


def _complain(sentence: str, exit_code: int) -> int:
    click.echo(f"edgeferry: {sentence}", err=True)
    return exit_code
