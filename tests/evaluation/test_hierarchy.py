"""A tree of five classes in groups of different depths."""

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.codes.taxonomy import read_taxonomy
from mhe_jax.data.dataset import DataError
from mhe_jax.evaluation.hierarchy import Hierarchy

NAMES = ("wolf", "crow", "finch", "oak", "elm")
LINES = "wolf\tanimals\ncrow\tanimals/birds\nfinch\tanimals/birds\noak\tplants\nelm\tplants\nmoss\tplants\n"
WOLF, CROW, FINCH, OAK, ELM = range(5)


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "tree.tsv").write_text(LINES)
    return Hierarchy.of(read_taxonomy(tmp_path / "tree.tsv", 5, NAMES), NAMES)


def test_nodes_know_what_is_above_them(tree):
    assert set(tree.names) == {"animals", "animals/birds", "plants", *NAMES}
    path = lambda index: [tree.names[node] for node in tree.path[index]]
    assert path(CROW) == ["animals", "animals/birds", "crow"]
    assert path(WOLF) == ["animals", "wolf", "wolf"]
    above = tree.ancestors[tree.leaf[CROW]].indices
    assert {tree.names[node] for node in above} == {"animals", "animals/birds", "crow"}


def test_accuracy_by_level(tree):
    true, predicted = np.array([CROW, CROW, CROW, CROW]), np.array([CROW, FINCH, WOLF, OAK])
    assert tree.level_accuracy(predicted, true) == [0.75, 0.5, 0.25]
    assert tree.level_accuracy(np.array([-1]), np.array([OAK])) == [0, 0, 0]


def test_hierarchical_scores_are_those_of_sets_with_all_above(tree):
    one = lambda classes: tree.nodes(np.arange(len(classes)), tree.leaf[classes], len(classes))
    found = tree.scores(one([FINCH, WOLF, OAK]), one([CROW, CROW, OAK]))
    assert found == {"hP": (2 + 1 + 2) / (3 + 2 + 2), "hR": (2 + 1 + 2) / (3 + 3 + 2), "hF": 10 / 15}
    many = scipy.sparse.csr_matrix((1, len(tree.names)), dtype=bool)
    assert tree.scores(many, one([OAK])) == {"hP": 0, "hR": 0, "hF": 0}


@pytest.mark.parametrize(
    ("scores", "threshold", "name", "mass"),
    [
        ([0.1, 0.4, 0.4, 0.05, 0.05], 0.7, "animals/birds", 0.8),
        ([0.1, 0.4, 0.4, 0.05, 0.05], 0.85, "animals", 0.9),
        ([0.1, 0.4, 0.4, 0.05, 0.05], 0.95, None, 1.0),
        ([0.0, 0.0, 0.0, 0.2, 0.8], 0.75, "elm", 0.8),
        ([0.3, 0.15, 0.15, 0.4, 0.0], 0.3, "wolf", 0.3),
    ],
)
def test_answers_stop_where_they_are_sure(tree, scores, threshold, name, mass):
    order = np.argsort(-np.array(scores))
    ids = np.append(order, -1)
    ranked = np.append(np.array(scores)[order], np.nan)
    node, found = tree.stopped(ids[None], ranked[None], threshold)
    assert (tree.names[node[0]] if node[0] >= 0 else None) == name
    assert found[0] == pytest.approx(mass)


def test_a_taxonomy_that_misses_a_class_is_told(tmp_path):
    path = tmp_path / "tree.tsv"
    path.write_text("wolf\tanimals\n")
    with pytest.raises(DataError, match=f"^{path} has no line for class 1, 'crow'$"):
        read_taxonomy(path, 5, NAMES)


def test_two_classes_of_one_name_are_refused(tmp_path):
    (tmp_path / "tree.tsv").write_text(LINES)
    names = ("oak", "oak", "elm")
    with pytest.raises(DataError, match="two classes are named 'oak': a tree tells classes by their names"):
        Hierarchy.of(read_taxonomy(tmp_path / "tree.tsv", 3, names), names)


def test_a_class_without_a_line_has_that_of_a_former_name(tmp_path):
    (tmp_path / "tree.tsv").write_text(LINES)
    names = ("wolf", "bird", "oak")
    root = read_taxonomy(tmp_path / "tree.tsv", 3, names, {"bird": ("oak", "crow", "raven")})
    tree = Hierarchy.of(root, names)
    assert [tree.names[node] for node in tree.path[1]] == ["animals", "animals/birds", "bird"]
    with pytest.raises(DataError, match="no line for class 1, 'bird'"):
        read_taxonomy(tmp_path / "tree.tsv", 3, names, {"bird": ("oak",)})
