"""The tree above a run's classes: the file that is named, the one that its codes are from, or one beside its data."""

import pathlib

from ml_collections import ConfigDict

from mhe_jax.codes.taxonomy import read_taxonomy
from mhe_jax.evaluation.hierarchy import Hierarchy
from mhe_jax.train.experiment import Classes

FILE = "taxonomy.tsv"


def find_hierarchy(named: pathlib.Path | None, config: ConfigDict, classes: Classes) -> Hierarchy | None:
    """The tree above a run's classes; None where there is none.

    Args:
      named: a file of lines `NAME<TAB>GROUP`, see `mhe_jax.codes.taxonomy.read_taxonomy`; None takes that of the
        config's codes, or taxonomy.tsv in the folder of the data, where they are there. Renamed classes may have their
        old names in it.
      config: of the run.
      classes: of the run.

    Raises:
      DataError: if the file is missing, malformed or has no line for a class.
    """
    path = named
    if path is None:
        codes, folder = config.get("codes", {}), config.data.get("path", "")
        beside = [codes.get("path", "")] if codes.get("name") == "taxonomy" else []
        beside += [str(pathlib.Path(folder).expanduser() / FILE)] if folder else []
        path = next((pathlib.Path(one) for one in beside if one and pathlib.Path(one).is_file()), None)
    if path is None:
        return None
    return Hierarchy.of(read_taxonomy(path, classes.number, classes.names, classes.former), classes.all_names)
