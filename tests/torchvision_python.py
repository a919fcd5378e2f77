"""timm and torchvision as references; torchvision's compiled operators, of which nothing here is one, may be missing.

They load only beside the very build of torch that they were compiled with, such as one for CUDA.
"""

import warnings

import pytest
import torch


def import_reference(name):
    """The module `name` of timm or torchvision; the test is skipped where they are not installed."""
    register = torch.library.register_fake

    def register_others(operator, *args, **kwargs):
        if str(operator).startswith("torchvision::"):
            return lambda function: function
        return register(operator, *args, **kwargs)

    torch.library.register_fake = register_others
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip(name, reason="needs the extra timm")
    finally:
        torch.library.register_fake = register
