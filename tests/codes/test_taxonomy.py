"""Trees of classes as codes: groups stay together, and what is wrong with a file is told with its line."""

import re

import numpy as np
import pytest

from mhe_jax.codes.taxonomy import codes_of_tree, read_taxonomy
from mhe_jax.data.dataset import DataError
from mhe_jax.labels import LabelSpace


def tree_of(tmp_path, text, names):
    (tmp_path / "tree.tsv").write_text(text)
    return read_taxonomy(tmp_path / "tree.tsv", len(names), names)


def cut(group_of, space):
    """How many groups are not within one block of the first digit."""
    return sum(len(np.unique(space.encode(codes)[:, 0])) > 1 for codes in group_of)


def test_twenty_groups_of_five_fill_ten_blocks(tmp_path):
    """The shape of CIFAR-100's superclasses."""
    group = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 5))
    names = tuple(f"class {i}" for i in range(100))
    text = "".join(f"{name}\tgroup {g}\n" for name, g in zip(names, group, strict=True))
    space = LabelSpace(100, (10, 10))
    codes = codes_of_tree(tree_of(tmp_path, text, names), space)
    by_group = [codes.code_of_id[group == g] for g in range(20)]
    assert cut(by_group, space) == 0
    assert all(codes.max() - codes.min() == 4 for codes in by_group)


def test_unequal_groups_are_packed(tmp_path):
    """Blocks of 10 for groups of 7, 6, 5, 5, 4, 3: in the order of the file two would be cut."""
    sizes = [7, 5, 6, 3, 5, 4]
    group = np.repeat(np.arange(6), sizes)
    names = tuple(map(str, range(30)))
    text = "".join(f"{i}\tg{g}\n" for i, g in enumerate(group))
    space = LabelSpace(30, (3, 10))
    codes = codes_of_tree(tree_of(tmp_path, text, names), space)
    assert cut([codes.code_of_id[group == g] for g in range(6)], space) == 0


def test_a_group_larger_than_a_block_takes_neighbouring_ones(tmp_path):
    group = np.random.default_rng(1).permutation(np.repeat(np.arange(2), [23, 7]))
    text = "".join(f"{i}\tg{g}\n" for i, g in enumerate(group))
    codes = codes_of_tree(tree_of(tmp_path, text, tuple(map(str, range(30)))), LabelSpace(30, (6, 5)))
    for g in range(2):
        places = np.sort(codes.code_of_id[group == g])
        np.testing.assert_array_equal(np.diff(places), 1)


def test_paths_and_lines_of_groups_say_the_same(tmp_path):
    names = ("cat", "dog", "trout", "oak")
    paths = "cat\tanimals/mammals\ndog\tanimals/mammals\ntrout\tanimals/fish\noak\tplants\n"
    lines = "mammals\tanimals\nfish\tanimals\n\ndog\tmammals\ntrout\tfish\ncat\tmammals\noak\tplants\nelm\tplants\n"
    space = LabelSpace(4, (2, 2))
    found = [codes_of_tree(tree_of(tmp_path, text, names), space) for text in (paths, lines)]
    assert found[0].digest == found[1].digest
    assert abs(int(found[0].code_of_id[0]) - int(found[0].code_of_id[1])) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tx\n", "tree.tsv has no line for class 1, 'b'"),
        ("a\tx\nb\ty\na\ty\n", "tree.tsv:3: 'a' has a group already, in line 1"),
        ("a\tx\nb\ty\na\tx\n", "tree.tsv:3: 'a' has a group already, in line 1"),
        ("a\tx\nb\ty\nx\ty\ny\tx\n", "'x' is a group of its own group"),
        ("a\tx\nb\tb\n", "tree.tsv:2: 'b' is a group of its own group"),
        ("a x\nb\ty\n", "tree.tsv:1: a line must be NAME<TAB>GROUP, not 'a x'"),
        ("a\t\nb\ty\n", "tree.tsv:1: a line must be NAME<TAB>GROUP"),
    ],
)
def test_a_broken_tree_is_an_error(tmp_path, text, message):
    with pytest.raises(DataError, match=re.escape(message)):
        tree_of(tmp_path, text, ("a", "b"))


def test_a_missing_tree_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.tsv: cannot be read"):
        read_taxonomy(tmp_path / "nowhere.tsv", 2, ())


def test_the_coarsest_group_of_a_path_may_have_a_line(tmp_path):
    text = "robin\tanimals/birds\ncod\tanimals/fish\nanimals\tnature/living\noak\tnature\n"
    root = tree_of(tmp_path, text, ["robin", "cod", "oak"])
    animals = root.groups["nature"].groups["living"].groups["animals"]
    assert list(root.groups) == ["nature"]
    assert animals.groups["birds"].classes == [0]
    assert animals.groups["fish"].classes == [1]
