"""A shipped config of pictures or faces with a network that compiles in seconds: `small_network.py:NAME,ARGUMENTS`."""

import importlib.util
import pathlib

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"


def get_config(arg):
    name, _, arguments = arg.partition(",")
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(arguments)
    faces = config.head.get("margin") is not None
    config.backbone = {"name": "convnet", "features_dim": 16, "widths": (8,), "activate_features": not faces}
    return config
