"""`mhe push`: a run as a folder for others, here or on the Hugging Face hub."""

import pathlib
import tempfile

from ml_collections import ConfigDict

from mhe_jax.export import folder as folders
from mhe_jax.export import output
from mhe_jax.export.program import open_run
from mhe_jax.inference import hub


def push(config: ConfigDict, workdir: pathlib.Path, to: str, license: str = "", private: bool = False) -> str:
    """Writes the folder that `mhe_jax.load` reads, see `mhe_jax.export.folder`.

    Args:
      config: of the run, see `mhe_jax.train.experiment.usable_config`.
      workdir: the run.
      to: a folder, or `hub:OWNER/NAME`, which is made if it does not exist; the token is that of `hf auth login`.
      license: for the card.
      private: of a new repository, whether others cannot see it.

    Returns:
      where it is now.

    Raises:
      ValueError: for a name that is none, a folder that holds other files, a run without weights, or if the hub cannot
        be reached or refuses.
    """
    if not to.startswith(hub.PREFIX):
        trained = open_run(config, workdir)
        with output.claimed(pathlib.Path(to), workdir) as made:
            folders.write(trained, made, license)
        return to
    name = hub.repository(to)
    trained = open_run(config, workdir)
    with tempfile.TemporaryDirectory() as temporary:
        folders.write(trained, pathlib.Path(temporary), license)
        return _uploaded(name, pathlib.Path(temporary), private)


def _uploaded(name: str, folder: pathlib.Path, private: bool) -> str:
    from huggingface_hub import HfApi  # slow to import

    api = HfApi(library_name="mhe_jax")
    try:
        api.create_repo(name, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message="A run of mhe_jax",
            delete_patterns=hub.FILES,  # of a run that was there: codes, say, where this one has none
        )
        return str(done)
    except Exception as error:  # no network, in the words of whichever library found out; no token, no right to it
        raise ValueError(f"{hub.PREFIX}{name}: {hub.said(error)}") from error
