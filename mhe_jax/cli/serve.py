"""`mhe serve RUN [RUN...]`: trained runs behind HTTP, with a page at / and the API in /openapi.json.

    mhe serve runs/demo names=runs/unicode --port=8000
    curl localhost:8000/v1/predict -H 'Content-Type: application/json' -d '{"inputs": ["greek alpha"], "top_k": 3}'

A run is a folder, or `hub:OWNER/NAME`, and is named by that, or by what stands before `=`. Requests that arrive
together go through the model together. Newer weights of a run that trains on are taken when they are there, or at
SIGHUP; SIGTERM answers what was taken in, and ends. It listens to this machine alone unless --host says otherwise.
"""

import ipaddress
import os
import pathlib

from absl import app, flags

from mhe_jax.cli import program

FLAGS = flags.FLAGS
TOKEN = "MHE_SERVE_TOKEN"


def main(argv: list[str]) -> None:
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 for those of all networks.")
    flags.DEFINE_integer("port", 8000, "Port to listen on; 0 for a free one, which is printed.", 0, 65535)
    flags.DEFINE_integer("max_top_k", 10, "Classes that an answer may have.")
    flags.DEFINE_integer("max_batch", 64, "Inputs that go through the model together.", 1, 64)
    flags.DEFINE_float("max_wait_ms", 0.0, "Milliseconds that an input which finds the model idle waits for others.")
    flags.DEFINE_integer("max_queue", 1024, "Inputs of a run that may wait; a request for more is answered 429.")
    flags.DEFINE_integer("max_inputs", 256, "Inputs of a request.")
    flags.DEFINE_float("max_body_mib", 16.0, "Size of a request, in MiB.")
    flags.DEFINE_float("timeout", 30.0, "Seconds for a request to arrive, and again for its answer.")
    flags.DEFINE_float("reload_seconds", 30.0, "Seconds between two looks for newer weights; 0 never looks.")
    flags.DEFINE_float("drain_seconds", 1.0, "Seconds after SIGTERM in which requests are still taken.")
    flags.DEFINE_string(
        "token_file", None, f"File of the token that requests must bear; without one, ${TOKEN} if it is set."
    )
    flags.DEFINE_multi_string("gallery", [], "[NAME=]DIR of pictures DIR/<person>/<picture>, for /v1/search.")
    program.run(command, argv)


def command(argv: list[str]) -> None:
    try:
        from mhe_jax.serving.metrics import Metrics
        from mhe_jax.serving.options import MIB, Options
        from mhe_jax.serving.served import Served
        from mhe_jax.serving.server import bound, serve
    except ModuleNotFoundError as error:
        raise ValueError(f"mhe serve needs {error.name}: pip install 'mhe-jax[serve]'") from None
    from mhe_jax.inference.hub import located
    from mhe_jax.train import compilation_cache

    if len(argv) < 2:
        raise app.UsageError("the folder of a run is needed")
    runs = named(argv[1:])
    galleries = _galleries(FLAGS.gallery, list(runs))
    options = Options(
        max_top_k=FLAGS.max_top_k,
        max_batch=FLAGS.max_batch,
        max_wait=FLAGS.max_wait_ms / 1000,
        max_queue=FLAGS.max_queue,
        max_inputs=FLAGS.max_inputs,
        max_body=int(FLAGS.max_body_mib * MIB),
        body_seconds=FLAGS.timeout,
        answer_seconds=FLAGS.timeout,
        reload_seconds=FLAGS.reload_seconds,
        drain_seconds=FLAGS.drain_seconds,
        token=_token(),
        hosts=_hosts(FLAGS.host),
    )
    listening, metrics = bound(FLAGS.host, FLAGS.port), Metrics()
    if not options.hosts and not options.token:
        print(f"warning: {FLAGS.host} may be reached from other machines, and no token is asked for", flush=True)
    if not_kept := compilation_cache.enable():
        print(not_kept)
    models = [Served(name, located(run), options, metrics, galleries.get(name)) for name, run in runs.items()]
    for served in models:
        served.open()
        info = served.info()
        print(f"{info.name}: {info.kind}, {info.head}, {info.num_classes:,} classes, step {info.step}", flush=True)
    serve(models, options, metrics, listening)


def named(arguments: list[str]) -> dict[str, str]:
    """Runs by names, of arguments [NAME=]RUN; raises ValueError for a name that two have, or that is none."""
    found: dict[str, str] = {}
    for argument in arguments:
        name, equals, folder = argument.partition("=")
        # An existing folder with a = in its name is meant as such.
        if not equals or pathlib.Path(argument).exists():
            name, folder = pathlib.Path(argument).resolve().name, argument
        if not name or "/" in name:
            raise ValueError(f"{name!r}, in {argument}, is no name for a run")
        if name in found:
            raise ValueError(f"{found[name]} and {folder} are both named {name}: write {name}2={folder}")
        found[name] = folder
    return found


def _galleries(arguments: list[str], runs: list[str]) -> dict[str, pathlib.Path]:
    found: dict[str, pathlib.Path] = {}
    for argument in arguments:
        name, equals, folder = argument.partition("=")
        # As of runs: an existing folder with a = in its name is meant as such.
        if not equals or (name not in runs and pathlib.Path(argument).exists()):
            name, folder = runs[0], argument
        if name not in runs:
            raise ValueError(f"--gallery={argument}: there is no run {name!r}; there are: {', '.join(runs)}")
        if name in found:
            raise ValueError(f"--gallery: {found[name]} and {folder} are both of {name}: a run has one")
        found[name] = pathlib.Path(folder)
    return found


def _token() -> str:
    """Of the file, or of the environment; empty for none."""
    if not FLAGS.token_file and not os.environ.get(TOKEN):
        return ""
    where = FLAGS.token_file or f"${TOKEN}"
    token = (pathlib.Path(FLAGS.token_file).read_text() if FLAGS.token_file else os.environ[TOKEN]).strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ValueError(f"{where} holds no token: one line of printable ASCII is needed")
    return token


def _hosts(host: str) -> tuple[str, ...]:
    """Names by which a server for this machine alone may be called; none where others may, by whatever name."""
    try:
        own = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = False
    shown = f"[{host}]" if ":" in host else host
    return tuple({"localhost", "127.0.0.1", "[::1]", shown}) if own else ()
