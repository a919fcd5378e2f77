"""What a train step of each head sends between devices on a mesh of 2 x 4, read from its compiled program."""

import math
from collections import Counter

import jax
import pytest

from mhe_jax.data.build import build_data
from mhe_jax.recipes.files import load_config
from mhe_jax.settings import Settings
from mhe_jax.train.parallel.collectives import collectives
from mhe_jax.train.parallel.mesh import BATCH, make_mesh
from mhe_jax.train.reporting.programs import build_model, compile_train
from mhe_jax.train.step import make_eval_step

B, C = 64, 4001
# Along 'class' each device holds a quarter of a table: 1001 of 4004 rows, 16 of 64 groups of 63.
ONE_HOT = [
    "all-gather class f32[32,512]",  # features
    "reduce-scatter class f32[8,512]",  # their gradient
    "all-reduce data f32[1001,512]",  # the table's gradient
]
PINNED = {
    "images,ohe": [
        *ONE_HOT,
        "all-gather class s32[32]",  # labels
        "all-gather class f32[32]",  # the loss's gradient
        *["all-reduce class f32[32]"] * 3,  # maximum, sum, the label's logit
        "all-reduce data f32[1001]",  # biases
    ],
    "images,mhp": [],
    "images,mhc": [
        "all-gather class s32[32,10]",  # groups whose members compete
        "all-gather class pred[32,10]",
        "all-gather class f32[32,256]",  # projected features
        "reduce-scatter class f32[8,10,63]",  # logits
        "all-gather class f32[32,10,63]",  # and back
        "reduce-scatter class f32[8,256]",
        "all-reduce data f32[16,63,256]",
    ],
    "images,mhs": [
        *["all-gather class s32[32,4]"] * 2,  # groups, there and back
        "all-gather class f32[32,512]",
        "reduce-scatter class f32[8,4,63]",
        "all-gather class f32[32,4,63]",
        "reduce-scatter class f32[8,512]",
        "all-reduce data f32[16,63,512]",
    ],
    "texts,ohe": [
        *ONE_HOT,
        "all-gather class s32[1,32,5]",  # labels
        "all-gather class f32[32]",
        "all-reduce class f32[32]",  # the loss, where it is logged
        "all-reduce data f32[1001]",
    ],
    "texts,mhc": [
        "all-gather class f32[32,300]",
        "all-gather class s32[32,10]",  # groups kept
        "all-gather class pred[32,10]",
        "reduce-scatter class f32[8,10,63]",
        "all-gather class f32[32,10,63]",
        "reduce-scatter class f32[8,300]",
        "all-reduce data f32[16,63,300]",
    ],
    "texts,mhc,sparse": [
        "all-gather data+class s32[640]",  # all kept groups, to find the different ones
        "all-reduce class f32[64,63,300]",  # the groups used, though not their optimizer slots
    ],
    "faces,ohe": [
        *ONE_HOT,
        "all-gather class s32[32]",
        *["all-gather class f32[32]"] * 2,  # gradients of the own cosine and of the others
        "all-gather class pred[32]",
        *["all-reduce class f32[32]"] * 3,
    ],
    "faces,partial": [
        "all-gather class f32[32,512]",
        "reduce-scatter class f32[8,512]",
        "all-reduce data f32[100,1,512]",  # of 1001 rows a tenth takes part
        *["all-gather class s32[32]", "all-gather class s32[32,1]", "all-gather data s32[64,1]"],  # labels
        *["all-gather class f32[32]"] * 2,
        "all-gather class pred[32]",
        *["all-reduce class f32[32]"] * 3,
        "all-reduce class s32[]",
    ],
}
# Gradients that every device has a share in, besides those of parameters that all hold.
EVERYWHERE = {"texts,mhc,sparse": [64 * 63 * 300]}


def prepared(arg, data, classes, block_size=0):
    config = load_config(f"scaling:{arg}")
    config.data.num_classes, config.global_batch_size = C, B
    config.mesh.update(data=data, classes=classes)
    if block_size and "block_size" in config.head:
        config.head.block_size = block_size
    settings = Settings.from_config(config)
    return settings, make_mesh(settings.mesh)


def sent_by(arg, data=2, classes=4, block_size=0):
    settings, mesh = prepared(arg, data, classes, block_size)
    with jax.set_mesh(mesh):
        model = build_model(settings, settings.head, mesh)
        return model, collectives(compile_train(settings, model, mesh).as_text(), mesh)


def everywhere(one):
    return one.kind == "all-reduce" and one.axes == "data+class"


def elements(one):
    return math.prod(int(n) for n in one.array.partition("[")[2].rstrip("]").split(",") if n)


@pytest.mark.parametrize("arg", PINNED)
def test_a_step_sends_this_and_nothing_else(arg):
    model, sent = sent_by(arg)
    assert Counter(str(one) for one in sent if not everywhere(one)) == Counter(PINNED[arg])
    # Over all devices go the gradients of what all of them hold, once each, and some statistics of the batch.
    replicated = [leaf.size for leaf in jax.tree.leaves(model.state.params) if leaf.sharding.is_fully_replicated]
    large = lambda sizes: sorted(size for size in sizes if size > 2000)
    assert large(elements(one) for one in sent if everywhere(one)) == large(replicated + EVERYWHERE.get(arg, []))


# Here all devices hold whole tables, in many blocks; a gradient is summed once, behind the loop over them.
@pytest.mark.parametrize("arg", ["images,ohe", "images,mhc", "images,mhs", "texts,ohe", "texts,mhs", "faces,ohe"])
def test_examples_alone_are_split_and_each_gradient_is_sent_once(arg):
    model, sent = sent_by(arg, data=8, classes=1, block_size=128)
    assert all(one.count == 1 and one.kind == "all-reduce" for one in sent if elements(one) > 1000)
    large = lambda sizes: sorted(size for size in sizes if size > 2000)
    found = large(elements(one) for one in sent)
    assert found == large(leaf.size for leaf in jax.tree.leaves(model.state.params))


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("arg", ["images,ohe", "images,mhp", "images,mhc", "images,mhs", "texts,ohe", "texts,mhs"])
def test_evaluation_gathers_no_logits(arg, classes):
    settings, mesh = prepared(arg, 8 // classes, classes, block_size=128)
    with jax.set_mesh(mesh):
        task, state = build_model(settings, settings.head, mesh)[::3]
        batch = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=jax.NamedSharding(mesh, BATCH)),
            build_data(settings.data).abstract_batch(B),
        )
        evaluate = jax.jit(lambda weights, batch: make_eval_step(task, lambda _, piece: piece)(weights, {}, batch))
        text = evaluate.lower({"params": state.params, "batch_stats": state.batch_stats}, batch).compile().as_text()
    sent = collectives(text, mesh)
    assert all(one.count == 1 for one in sent)
    # With the whole table on every device not even features are sent, and nothing of a batch's length is.
    most = 32 * max(512, 10 * 63) if classes > 1 else 100
    assert max((elements(one) for one in sent), default=0) <= most


def test_one_device_sends_nothing_to_itself():
    _, sent = sent_by("images,ohe", data=8, classes=1)
    assert {one.axes for one in sent} == {"data"}
    assert max(elements(one) for one in sent) == C * 512


MESH = jax.sharding.AbstractMesh((2, 4), ("data", "class"))
PROGRAM = """HloModule jit_program

%body (x: f32[8]) -> f32[8] {
  %inside = f32[8]{0} all-reduce(%x), channel_id=1, replica_groups={{0,4},{1,5},{2,6},{3,7}}, to_apply=%add
}

%branch (x: f32[8]) -> f32[8] {
  ROOT %other = f32[32]{0} all-gather(%x), channel_id=2, replica_groups=[2,4]<=[8], dimensions={0}
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %loop = f32[8]{0} while(%x), condition=%test, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %if = f32[8]{0} conditional(%x), branch_computations={%branch, %nothing}
  %both = (f32[3,4]{1,0}, bf16[8]{0}) all-reduce(%x, %y), replica_groups=mesh['a'=8] {'a'}, to_apply=%add
  %scatter = f32[2]{0} reduce-scatter(%x), replica_groups=[4,2]<=[2,4]T(1,0), dimensions={0}, to_apply=%add
  %alone = f32[8]{0} all-reduce(%x), replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}, to_apply=%add
  %ring = f32[8]{0} collective-permute(%x), source_target_pairs={{0,1},{1,0}}
  %start = (f32[8]{0}, f32[64]{0}) all-gather-start(%x), replica_groups={}, dimensions={0}
  %done = f32[64]{0} all-gather-done(%start)
  %part = f32[8]{0} all-reduce(%x), replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}, to_apply=%add
}
"""


def test_a_program_is_read_with_its_loops_branches_and_groups():
    found = collectives(PROGRAM, MESH)
    assert {str(one): one.moved for one in found} == {
        "all-reduce data f32[8] x5": 5 * 32,  # twice the array, half of which a device has already
        "all-gather class f32[32]": 96,
        "all-reduce data+class f32[3,4]": 84,
        "all-reduce data+class bf16[8]": 28,
        "reduce-scatter data f32[2]": 8,
        "collective-permute permuted f32[8]": 32,
        "all-gather data+class f32[64]": 224,
        "all-reduce data f32[8]": 32,
    }


def test_unknown_groups_are_refused():
    line = "ENTRY %main (x: f32[8]) -> f32[8] {\n  %a = f32[8]{0} all-reduce(%x), replica_groups=all, to_apply=%add\n}"
    with pytest.raises(ValueError, match="device groups in an unknown notation: %a = "):
        collectives(line, MESH)
