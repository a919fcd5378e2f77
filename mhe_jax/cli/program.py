"""What the command lines with absl's flags share: quiet libraries, configs by name, and one line for a mistake."""

import pathlib
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging

from mhe_jax.recipes.files import load_config, located

Command = Callable[[list[str]], int | None]
QUOTES = "'\""


def run(command: Command, argv: Sequence[str]) -> None:
    """Like `start`, for commands that print a result: libraries are quiet, and an error is one line and status 2."""

    def guarded(arguments: list[str]) -> int | None:
        quiet()
        try:
            return command(arguments)
        except (ValueError, OSError) as error:
            mistake(error)

    guarded.__module__ = command.__module__
    start(guarded, argv)


def top_k(workdir: pathlib.Path) -> int:
    """The flag `--top_k`; where it is not given its default, or all classes that the run has, if they are fewer."""
    from mhe_jax.train import class_files

    value: int = flags.FLAGS.top_k
    return value if flags.FLAGS["top_k"].present else min(value, class_files.num_live(workdir))


def status_of(work: Callable[[], int]) -> int:
    """What `work` of a training or evaluation returns, or the status of its error, which is one line.

    What this package raised, and what the file system says, is for the user; the rest needs its traceback.
    """
    try:
        return work()
    except (ValueError, OSError, ArithmeticError, ImportError) as error:
        raised_in = pathlib.Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        if pathlib.Path(__file__).parents[1] not in raised_in.parents and not isinstance(error, OSError):
            raise
        from mhe_jax.train.parallel import distributed

        print(f"error: {error}", file=sys.stderr)
        # A scheduler may try again what disks, networks and other processes did; a mistake stays one.
        return distributed.leave(1 if isinstance(error, OSError) else 2)


def quiet() -> None:
    """The libraries below report each of their steps; the program's own lines are what people read."""
    logging.set_verbosity(logging.WARNING)
    # What goes wrong in Orbax's threads and coroutines comes to this one as an exception; once is enough.
    logging.get_absl_handler().addFilter(lambda record: "/orbax/" not in record.pathname and record.name != "asyncio")


def start(command: Command, argv: Sequence[str]) -> None:
    """Parses flags, calls `command` with the other arguments and exits with its status; `--help` is its module's.

    A mistake in the flags, and an `app.UsageError` of the command, are one line and status 2.
    """
    module = sys.modules[command.__module__]
    # absl shows the help of the file that was started, and its flags under that name.
    sys.modules["__main__"].__doc__ = module.__doc__
    for flag in flags.FLAGS.get_key_flags_for_module(module.__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)

    def without_usage(arguments: list[str]) -> int:
        try:
            return command(arguments) or 0
        except app.UsageError as error:  # absl would print all flags, and the error below them
            mistake(error)

    app.run(without_usage, argv=list(argv), flags_parser=parse_flags)


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, with one line for a mistake; `--config=NAME` is a shipped config where there is no such file."""
    try:
        return flags.FLAGS([argv[0], *_located(argv[1:])])
    except SystemExit:  # after the help, which absl ends with 1
        sys.exit(0)
    except (AttributeError, KeyError) as error:
        name, _, hint = str(error.args[0]).partition("\n")
        mistake(f"the config has no field {name.strip(QUOTES)!r}{hint and '. ' + hint.rstrip(QUOTES)}")
    except (flags.Error, TypeError, ValueError, OSError) as error:
        mistake(error)


def mistake(error: object) -> NoReturn:
    """Ends the program with one line that says what is wrong, and status 2: trying again would not help."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


def _located(arguments: Sequence[str]) -> list[str]:
    """The arguments with the path of each config, which is read once here: absl's words on a broken one fill a page."""
    found, value_follows = [], False
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if value_follows:
            load_config(argument)
            argument = located(argument)
        elif equals and flag in ("-config", "--config"):
            load_config(value)
            argument = f"{flag}={located(value)}"
        value_follows = argument in ("-config", "--config")
        found.append("--help" if argument == "-h" else argument)
    return found
