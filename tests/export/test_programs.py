"""Programs of runs: every head and kind of input, as ONNX and as StableHLO, against what the run itself answers."""

import dataclasses

import jax
import numpy as np
import pytest
from jax import export

from mhe_jax.export import onnx_model, output, stablehlo
from mhe_jax.export.program import program_of
from mhe_jax.export.programs import check, random_inputs
from mhe_jax.export.tables import DTYPES, agreement, narrow, widened
from mhe_jax.inference.run import Run
from mhe_jax.models import BACKBONES, ENCODERS
from mhe_jax.ops.storage import Scaled, widen
from mhe_jax.recipes import heads
from mhe_jax.train.reporting import stored
from tests import field_runs
from tests.export.untrained import CLASSES, WIDTH, config_of, untrained

HEADS = {
    "pictures": {
        "ohe": heads.ohe(),
        "mhp": heads.mhp((4, 5)),
        "mhc": heads.mhc((4, 5)),
        "mhs": heads.mhs((4, 5)),
    },
    "texts": {
        "ohe": heads.xmc_ohe(),
        "mhp": heads.xmc_mhp((11, 5)),
        "mhc": {**heads.xmc_mhc((11, 5)), "num_candidates": 4, "hidden_dim": 8},
        "mhs": heads.xmc_mhs((11, 5)),
    },
    "features": {
        "ohe": heads.frequent(heads.ohe(), 4, bottleneck=3),
        "mhp": heads.mhp((4, 3), rank=3),
        "mhc": {**heads.mhc((4, 3)), "objective": "path", "beam_width": 2},
        "mhs": heads.mhs_of_batch((4, 3)),
    },
    "sparse": {"mhc": heads.xmc_mhc((4, 3))},
}
RUNS = [(kind, head) for kind, sections in HEADS.items() for head in sections]


def trained_of(kind, head, folder):
    return untrained(config_of(kind, HEADS[kind][head] if head else None), folder)


@pytest.mark.parametrize("longest", [6, 16])
def test_an_encoder_with_windows_is_a_program_for_any_length(longest, tmp_path):
    pytest.importorskip("onnxruntime")
    config = config_of("texts", heads.xmc_ohe())
    config.data.update(max_length=longest, lengths=(2, 5), bucket_lengths=())
    fields = {name: config.backbone[name] for name in ("hidden_size", "num_heads", "intermediate_size")}
    config.backbone = {"name": "modernbert", "vocab_size": 97, "num_layers": 4, "local_window": 8, **fields}
    trained = untrained(config, tmp_path / "run")
    for write in (onnx_model.write, stablehlo.write):
        (tmp_path / write.__module__).mkdir()
        assert write(trained, program_of(trained, 3, float32=True), tmp_path / write.__module__) <= 1e-5


@pytest.mark.parametrize("name", [*(name for name in BACKBONES | ENCODERS if name != "convnet"), "bert by distances"])
def test_every_backbone_is_a_program(name, tmp_path):
    pytest.importorskip("onnxruntime")
    config = field_runs.RUNS[f"backbone:{name.split()[0]}"]()
    if "distances" in name:
        config.backbone.relative_positions = True
    config.mesh.update(data=-1, classes=1)
    trained = untrained(config, tmp_path / "run")
    program = program_of(trained, 3, float32=True)
    for write in (onnx_model.write, stablehlo.write):
        (tmp_path / write.__module__).mkdir()
        assert write(trained, program, tmp_path / write.__module__) <= 1e-5


@pytest.mark.parametrize(("kind", "head"), RUNS)
def test_onnx_answers_as_jax(kind, head, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    trained = trained_of(kind, head, tmp_path / "run")
    program = program_of(trained, 3, float32=True)
    (tmp_path / "out").mkdir()
    assert onnx_model.write(trained, program, tmp_path / "out") <= 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / onnx_model.FILE))
    inputs = random_inputs(program, 6, seed=1)
    found = dict(zip(("ids", "scores"), session.run(["ids", "scores"], inputs), strict=True))
    expected = program(inputs)
    np.testing.assert_allclose(found["scores"], expected["scores"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found["ids"], expected["ids"])
    manifest = stored.read_object(tmp_path / "out" / output.MANIFEST)
    assert manifest["format"] == "onnx"
    assert manifest["outputs"]["ids"] == {"shape": ["batch", 3], "dtype": "int32"}
    assert {name: one["shape"][0] for name, one in manifest["inputs"].items()} == dict.fromkeys(inputs, "batch")


@pytest.mark.parametrize(("kind", "head"), [("pictures", "mhc"), ("texts", "mhp"), ("features", "ohe")])
def test_stablehlo_answers_as_the_run(kind, head, tmp_path):
    trained = trained_of(kind, head, tmp_path / "run")
    program = program_of(trained, 4)
    (tmp_path / "out").mkdir()
    stablehlo.write(trained, program, tmp_path / "out")
    model = export.deserialize(bytearray((tmp_path / "out" / stablehlo.FILE).read_bytes()))
    assert model.platforms == ("cpu", "cuda", "tpu")
    rng = np.random.default_rng(2)
    asked = {
        "pictures": rng.integers(256, size=(5, 8, 8, 1), dtype=np.uint8),
        "texts": ["3 4", "5 6 7 8", "90"],
        "features": rng.normal(size=(5, WIDTH)).astype(np.float32),
    }[kind]
    given = trained.data.inputs_of(asked) if kind == "texts" else {next(iter(program.inputs)): asked}
    found = jax.device_get(model.call(given))
    for ids, scores, best in zip(
        found["ids"], found["scores"], Run(None, trained).predict(asked, top_k=4), strict=True
    ):
        assert [one.id for one in best] == ids[ids >= 0].tolist()
        np.testing.assert_allclose(scores[ids >= 0], [one.score for one in best], rtol=0, atol=1e-5)
    manifest = stored.read_object(tmp_path / "out" / output.MANIFEST)
    assert "6 months" in manifest["compatibility"]
    assert manifest["versions"]["jax"] == jax.__version__


def test_faces_give_embeddings_of_length_one(tmp_path):
    trained = trained_of("faces", None, tmp_path / "run")
    program = program_of(trained, 5)
    (tmp_path / "out").mkdir()
    stablehlo.write(trained, program, tmp_path / "out")
    model = export.deserialize(bytearray((tmp_path / "out" / stablehlo.FILE).read_bytes()))
    pictures = np.random.default_rng(0).integers(256, size=(3, *trained.data.image_shape), dtype=np.uint8)
    found = model.call({"image": pictures})
    assert set(found) == {"embeddings"}
    np.testing.assert_allclose(found["embeddings"], Run(None, trained).embed(pictures), atol=1e-5)


def test_a_weight_that_no_answer_needs_is_left_out(tmp_path):
    onnx = pytest.importorskip("onnx")
    trained = trained_of("faces", None, tmp_path / "run")
    (tmp_path / "out").mkdir()
    onnx_model.write(trained, program_of(trained, 5, float32=True), tmp_path / "out")
    names = [tensor.name for tensor in onnx.load(tmp_path / "out" / onnx_model.FILE).graph.initializer]
    assert any(name.startswith("params/backbone") for name in names)
    assert not any(name.startswith("params/head") for name in names)


@pytest.mark.parametrize("dtype", DTYPES)
def test_narrow_rows_are_near(dtype):
    rows = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32) * np.float32([[1e-3], [1], [0], [50], [7]])
    kept = narrow(rows, dtype)
    assert kept.values.dtype.name == dtype
    error = np.abs(np.asarray(kept.values, np.float32) * kept.scales[:, None] - rows).max(axis=1)
    # Half a step of 127, or of three bits of mantissa.
    assert (error <= np.abs(rows).max(axis=1) / (254 if dtype == "int8" else 27)).all()


@pytest.mark.parametrize(
    ("kind", "head"), [("pictures", "ohe"), ("pictures", "mhs"), ("features", "ohe"), ("texts", "mhc")]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_narrow_tables_answer_as_their_rounded_rows(kind, head, dtype, tmp_path):
    trained = trained_of(kind, head, tmp_path / "run")
    whole, small = (program_of(trained, 3, table_dtype=name) for name in ("", dtype))
    inputs = random_inputs(whole, 8)
    # What a program answers is what one with the rounded table in float32 would, to its last bits.
    rounded = jax.tree.map(widened, small.weights, is_leaf=lambda leaf: isinstance(leaf, Scaled))
    expected = dataclasses.replace(whole, weights=rounded)(inputs)
    size = min(np.abs(expected["scores"]).max(), 1.0)  # texts have products of probabilities
    np.testing.assert_allclose(small(inputs)["scores"], expected["scores"], rtol=0, atol=1e-5 * size)
    assert np.abs(expected["scores"] - whole(inputs)["scores"]).max() > 1e-4 * size
    found = agreement(trained, dtype)
    assert found.share > 0.8
    # The data of features is not here: nothing is at the path of the config.
    assert found.source == ("random features, as the data is away" if kind == "features" else "the evaluation split")


def test_a_narrow_table_in_onnx(tmp_path):
    onnx = pytest.importorskip("onnx")
    trained = trained_of("pictures", "ohe", tmp_path / "run")
    (tmp_path / "out").mkdir()
    onnx_model.write(trained, program_of(trained, 3, float32=True, table_dtype="int8"), tmp_path / "out")
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "out" / onnx_model.FILE).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds


@pytest.mark.parametrize(
    ("kind", "head", "options", "message"),
    [
        ("features", "mhp", {"top_k": 0}, f"--top_k=0: it must be between 1 and the {CLASSES} classes"),
        ("features", "mhp", {"top_k": CLASSES + 1}, f"--top_k={CLASSES + 1}: it must be"),
        ("features", "mhp", {"top_k": 1, "table_dtype": "int8"}, "only tables with a row for each class"),
        ("features", "ohe", {"top_k": 1, "table_dtype": "int4"}, "must be one of int8, float8_e4m3fn"),
        ("faces", None, {"top_k": 1, "table_dtype": "int8"}, "gives embeddings"),
    ],
)
def test_what_no_program_can_be(kind, head, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        program_of(trained_of(kind, head, tmp_path), **options)


def test_a_program_that_differs_is_not_left_behind(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    trained = trained_of("features", "ohe", tmp_path / "run")
    monkeypatch.setattr("mhe_jax.export.programs.TOLERANCE", -1)
    program = program_of(trained, 3, float32=True)
    claimed = output.claimed(tmp_path / "out", tmp_path / "run")
    with pytest.raises(ValueError, match="differs from JAX"), claimed as made:
        onnx_model.write(trained, program, made)
    assert not (tmp_path / "out").exists()


def test_an_answer_that_is_no_number_is_a_difference():
    class Doubled:
        def zeros(self, batch, share=1):
            return {"features": np.zeros((batch, 3), np.float32)}

        def __call__(self, inputs):
            return {"embeddings": 2 * inputs["features"]}

    assert check(Doubled(), Doubled(), "ONNX") == 0
    with pytest.raises(ValueError, match="the ONNX program differs from JAX by nan"):
        check(Doubled(), lambda inputs: {"embeddings": np.nan * inputs["features"]}, "ONNX")


def test_widened_floats_of_eight_bits_are_those_of_the_table():
    rows = np.float32([[1.0, -448.0, 0.25]])
    np.testing.assert_array_equal(widen(jax.tree.map(jax.numpy.asarray, narrow(rows, "float8_e4m3fn"))), rows)
