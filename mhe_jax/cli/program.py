"""What the command lines with absl's flags share: quiet libraries, configs by name, and one line for a mistake."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from mhe_jax.recipes.files import shipped


def run(command: Callable[[list[str]], int | None], argv: Sequence[str]) -> None:
    """Parses flags, calls `command` with the other arguments and exits; an error in them is one line and status 2."""

    def guarded(arguments: list[str]) -> int:
        # The libraries below report each of their steps.
        logging.set_verbosity(logging.WARNING)
        try:
            return command(arguments) or 0
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    guarded.__module__ = command.__module__
    start(guarded, argv)


def start(command: Callable[[list[str]], int], argv: Sequence[str]) -> None:
    """Parses flags, calls `command` with the other arguments and exits with its status; `--help` is its module's."""
    module = sys.modules[command.__module__]
    # absl shows the help of the file that was started, and its flags under that name.
    sys.modules["__main__"].__doc__ = module.__doc__
    for flag in flags.FLAGS.get_key_flags_for_module(module.__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(command, argv=list(argv), flags_parser=parse_flags)


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, with one line for a config field or argument that does not exist.

    `--config=NAME` is a config that the package ships, where there is no such file.
    """
    try:
        return app.parse_flags_with_usage([argv[0], *_located(argv[1:])])
    except (AttributeError, KeyError) as error:
        name = str(error.args[0]).strip("'\"")
        sys.exit(f"error: the config has no field '{name}'")
    except (TypeError, ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


def _located(arguments: Sequence[str]) -> list[str]:
    located, value_follows = [], False
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if value_follows:
            argument = shipped(argument)
        elif equals and flag.lstrip("-") == "config" and flag.startswith("-"):
            argument = f"{flag}={shipped(value)}"
        value_follows = argument in ("-config", "--config")
        located.append(argument)
    return located
