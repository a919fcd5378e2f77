"""The list of classes that a run keeps: changed, numbered by names, written and read; every mistake is one line."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from mhe_jax.labels import LabelCodes
from mhe_jax.train import class_files, experiment
from mhe_jax.train.classes import Begun, Classes, of_fields
from mhe_jax.train.numbered import without_retired
from tests.train.extended import config_of

HEAD = ConfigDict({"name": "mhs", "head_sizes": (2, 3)})
LIST = Classes(4, ("a", "b", "c", "d")).kept(HEAD)


def numbers(classes, names):
    """Which class of the data each id has, and the new names."""
    codes, new = classes.numbering(names, len(names), "RUN")
    return codes.classes_by_code.tolist(), new


def test_a_list_that_is_the_datas_is_written_as_ever():
    assert Classes(3, ("a", "b", "c")).as_fields() == {"number": 3, "names": ("a", "b", "c")}
    assert not Classes(3, ()).is_kept
    assert Classes(3, ("a",)).kept(HEAD).names == ("a", "1", "2")


def test_a_list_is_read_as_it_was_written(tmp_path):
    classes = LIST.renamed("b", "bee").without("c")
    classes = Classes(**{**vars(classes), "begun": Begun((3,), (2, 3), 3)})
    fields = json.loads(json.dumps(classes.as_fields()))
    found = of_fields(tmp_path, fields)
    assert found == Classes(**{**vars(classes), "names": list(classes.names)})


def test_classes_are_renamed_and_data_with_either_name_fits():
    classes = LIST.renamed("b", "z").renamed("z", "zz")
    assert classes.names == ("a", "zz", "c", "d")
    assert classes.former == {"zz": ("b", "z")}
    for name in ("b", "z", "zz"):
        assert numbers(classes, ["d", "a", name, "c"]) == ([1, 2, 3, 0], ())
    assert classes.renamed("zz", "b").former == {"b": ("z", "zz")}


def test_a_former_name_may_be_that_of_a_new_class():
    classes = LIST.renamed("b", "z")
    assert numbers(classes, ["a", "b", "c", "d", "z"]) == ([0, 4, 2, 3, 1], ("b",))


def test_new_classes_come_behind_in_the_order_of_the_data():
    assert numbers(LIST, ["0", "a", "aa", "b", "c", "d"]) == ([1, 3, 4, 5, 0, 2], ("0", "aa"))


def test_retired_classes_may_be_missing():
    assert numbers(LIST.without("b"), ["a", "c", "d"]) == ([0, -1, 1, 2], ())
    assert numbers(LIST.without("b"), ["a", "b", "c", "d"]) == ([0, 1, 2, 3], ())


def test_states_and_free_codes():
    codes = LabelCodes.placed([2, -1, 0, 3, 1], 4)
    assert LIST.space(HEAD, codes).free == (1,)
    retired = LIST.without("a")
    assert retired.space(HEAD, codes).free == (1, 2)
    assert retired.states(codes).tolist() == ["retired", "trained", "trained", "trained"]
    begun = Classes(**{**vars(LIST), "begun": Begun((3,), (1, 3), 3)})
    before, known = begun.before(codes)
    assert before.head_sizes == (1, 3)
    assert known.id_of_code.tolist() == [2, -1, 0]
    assert before.states(known)[3] == "untrained"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.renamed("x", "y"), "there is no class 'x'"),
        (lambda c: c.renamed("A", "y"), "there is no class 'A'; 'a' there differs from 'A' in capitals"),
        (lambda c: c.renamed("b", "z").renamed("b", "y"), "there is no class 'b'; it is 'z' now"),
        (lambda c: c.renamed("a", "b"), "there is a class 'b' already: two classes of one name"),
        (lambda c: c.renamed("a", "a"), "there is a class 'a' already"),
        (lambda c: c.renamed("a", " x"), "' x' is no name of a class"),
        (lambda c: c.renamed("a", ""), "'' is no name of a class"),
        (lambda c: c.without("x"), "there is no class 'x'"),
        (lambda c: c.without("a").without("a"), "the class 'a' is retired already"),
        (lambda c: c.without("a").without("b").without("c").without("d"), "'d' is the only class that is left"),
        (lambda c: c.numbering(["a", "b", "d"], 3, "RUN"), "the data lacks the class 'c' of RUN"),
        (
            lambda c: c.numbering(["a", "b", "b", "c", "d"], 5, "RUN"),
            "two classes are named 'b': a run that keeps",
        ),
        (lambda c: Classes(3, ("a", "b", "b")).kept(HEAD), "two classes are named 'b'"),
        (lambda c: c.numbering([], 4, "RUN"), "the data lacks the class 'a' and 3 others of RUN"),
    ],
)
def test_a_wrong_change_is_one_line(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        change(LIST)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"retired": [4]}, "there is no class 4, but 4 classes"),
        ({"retired": "all"}, "retired is 'all'; it must be a list of whole numbers"),
        ({"head_sizes": [0.5]}, r"head_sizes is \[0.5\]; it must be a list"),
        ({"former": ["a"]}, "former must be lists of names, by name"),
        ({"former": {"a": [1]}}, "former must be lists of names, by name"),
        ({"begun": [3]}, "begun must be an object with ids, head_sizes and codes"),
        ({"begun": {"codes": 3, "ids": [7], "head_sizes": [1, 3]}}, "there is no class 7"),
        ({"head_sizes": []}, "head_sizes is missing"),
    ],
)
def test_a_damaged_list_is_an_error_that_names_the_file(tmp_path, fields, message):
    good = json.loads(json.dumps(LIST.without("a").as_fields()))
    with pytest.raises(ValueError, match=message) as caught:
        of_fields(tmp_path / "classes.json", {**good, **fields})
    assert "classes.json" in str(caught.value)


def test_numbers_stand_for_names_that_are_missing():
    codes, new = Classes(2, ()).kept(HEAD).numbering([], 3, "RUN")
    assert (codes.classes_by_code.tolist(), new) == ([0, 1, 2], ("2",))
    assert np.array_equal(codes.codes(np.array([2, 0])), [2, 0])


def test_a_run_that_has_not_begun_takes_no_change(tmp_path):
    experiment.claim_workdir(tmp_path, config_of("mhs", tmp_path), Classes(2, ("a", "b")))
    with pytest.raises(ValueError, match="has no checkpoint: until it has one, its classes are those of its data"):
        class_files.change(tmp_path, lambda classes: classes.without("a"))


def test_a_folder_that_a_killed_save_left_is_no_checkpoint(tmp_path):
    experiment.claim_workdir(tmp_path, config_of("mhs", tmp_path), Classes(2, ("a", "b")))
    (tmp_path / "checkpoints" / "0.orbax-checkpoint-tmp").mkdir(parents=True)
    assert not experiment.is_begun(tmp_path)
    (tmp_path / "checkpoints" / "0").mkdir()
    assert experiment.is_begun(tmp_path)


def test_a_change_is_not_undone_by_a_start_that_read_the_list_before(tmp_path):
    config, read = config_of("mhs", tmp_path), Classes(2, ("a", "b"))
    experiment.claim_workdir(tmp_path, config, read)
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    experiment.claim_workdir(tmp_path, config, read)
    class_files.change(tmp_path, lambda classes: classes.without("a"))
    with pytest.raises(ValueError, match="its classes were changed meanwhile: start again"):
        experiment.claim_workdir(tmp_path, config, read)
    experiment.claim_workdir(tmp_path, config, experiment.read_workdir(tmp_path)[1])
    assert experiment.read_workdir(tmp_path)[1].retired == (0,)


def test_rows_with_many_labels_go_without_retired_ones():
    found = without_retired(LabelCodes.identity(4), LIST.without("c"))
    assert found.codes(np.array([0, 2, 3])).tolist() == [0, -1, 3]
