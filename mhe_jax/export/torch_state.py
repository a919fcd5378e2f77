"""A state dict with the names of the published PyTorch models, as safetensors: `torch` itself is not needed for it."""

import pathlib

import safetensors.numpy

from mhe_jax.export import output
from mhe_jax.inference.opened import Trained
from mhe_jax.interop.torch import export_state_dict

FILE = "state_dict.safetensors"
# The layout of `interop.torch` for each backbone that has one there.
LAYOUTS = {
    "resnet_cifar": "reference_cifar",
    "resnet": "reference_imagenet",
    "vit": "timm_vit",
    "convnext": "timm_convnext",
    "bert": "reference_text",
    "xlnet": "reference_text",
    "iresnet": "insightface_iresnet",
    "mobilefacenet": "insightface_mobilefacenet",
    "face_vit": "insightface_vit",
}


def write(trained: Trained, folder: pathlib.Path) -> None:
    """Writes the state dict of backbone and head, and its manifest.

    Raises:
      ValueError: if PyTorch's published models have none of this kind.
    """
    section, head = trained.settings.backbone, trained.settings.head.name
    name = section.name
    if name not in LAYOUTS:
        raise ValueError(
            f"--format=torch: the published models have no backbone {name!r}; there are {', '.join(LAYOUTS)}, and "
            "--format=onnx and stablehlo take any run"
        )
    space = trained.task.head.label_space
    if space.free or trained.codes.num_codes > trained.classes.number:
        raise ValueError(
            "--format=torch: classes of the run are retired, or codes free, and a state dict has neither; "
            "--format=onnx and stablehlo take any run"
        )
    if (centers := getattr(trained.task.head, "sub_centers", 1)) > 1:
        raise ValueError(
            f"--format=torch: config.head.sub_centers is {centers}, and the published models have one row for each "
            "class; --format=onnx and stablehlo take any run"
        )
    try:
        state = export_state_dict(trained.weights, LAYOUTS[name], head, space, trained.codes)
    except ValueError as error:
        raise ValueError(f"--format=torch: {error}; --format=onnx and stablehlo take any run") from None
    safetensors.numpy.save_file(state, folder / FILE, metadata={"format": "pt"})
    output.write_classes(folder, trained)
    facts = {"layout": LAYOUTS[name], "head_sizes": list(space.head_sizes), "tensors": len(state)}
    output.write_manifest(folder, "torch", trained, facts)
