"""The names of `import mhe_jax`: they can be had, they are documented, and the import costs nothing."""

import ast
import doctest
import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import mhe_jax

# Made of sections and folders, not of arrays.
WITHOUT_SHAPES = {"build_head", "load"}
FUNCTIONS = [name for name in mhe_jax.__all__ if inspect.isfunction(getattr(mhe_jax, name))]
CLASSES = [name for name in mhe_jax.__all__ if inspect.isclass(getattr(mhe_jax, name))]


def test_every_name_is_a_function_or_a_class_and_listed():
    assert sorted(FUNCTIONS + CLASSES) == sorted(set(mhe_jax.__all__))
    assert set(mhe_jax.__all__) < set(dir(mhe_jax))
    with pytest.raises(AttributeError, match="module 'mhe_jax' has no attribute 'nothing'"):
        _ = mhe_jax.nothing


def test_type_checkers_see_the_same_names():
    tree = ast.parse(pathlib.Path(mhe_jax.__file__).read_text())
    imported = {
        alias.asname: (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {name: (f"mhe_jax.{module}", name) for name, module in mhe_jax._HOME.items()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_say_their_shapes(name):
    text = inspect.getdoc(getattr(mhe_jax, name))
    assert text
    assert name in WITHOUT_SHAPES or re.search(r"\[[^\]]*[A-Z.][^\]]*\]", text)


@pytest.mark.parametrize("name", CLASSES)
def test_classes_and_their_methods_are_documented(name):
    public = getattr(mhe_jax, name)
    # A dataclass or a named tuple without a docstring gets one that is its signature.
    assert not public.__doc__.startswith(f"{name}(")
    for attribute, value in vars(public).items():
        if not attribute.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            assert attribute == "setup" or inspect.getdoc(getattr(public, attribute)), attribute


def test_the_import_takes_neither_jax_nor_flax():
    code = "import sys, mhe_jax; assert not {'jax', 'flax', 'numpy'} & set(sys.modules); mhe_jax.LabelSpace(5, (2, 3))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


MODULES = sorted({f"mhe_jax.{module}" for module in mhe_jax._PUBLIC})


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_docstrings_are_true(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.failed == 0
